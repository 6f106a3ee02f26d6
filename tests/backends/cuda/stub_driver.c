/* A CUDA driver without a GPU: device memory is the host's, kernels are noted and not run.

   It answers what the cuda backend calls, so that the calls themselves are tested: their number of arguments, what is
   converted to what, in which order they come. Each call that matters writes a line to the file in STUB_LOG. What
   STUB_VERSION, STUB_DEVICES, STUB_MAJOR and STUB_INIT say is what the driver reports; STUB_ORDINAL is the device that
   all memory is on. Streams are numbered from 0x2000, events from 0x6000. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Result;
typedef unsigned long long Pointer;
enum { SUCCESS = 0, OUT_OF_MEMORY = 2, NO_IMAGE = 200, NOT_READY = 600 };

static int setting(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text ? atoi(text) : otherwise;
}

static void note(const char *format, ...) {
    const char *path = getenv("STUB_LOG");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (!file) return;
    va_list values;
    va_start(values, format);
    vfprintf(file, format, values);
    va_end(values);
    fclose(file);
}

Result cuInit(unsigned flags) { return setting("STUB_INIT", SUCCESS); }
Result cuDriverGetVersion(int *version) { *version = setting("STUB_VERSION", 13000); return SUCCESS; }
Result cuDeviceGetCount(int *count) { *count = setting("STUB_DEVICES", 1); return SUCCESS; }
Result cuDeviceGet(int *device, int ordinal) { *device = ordinal; return SUCCESS; }
Result cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? setting("STUB_MAJOR", 9) : attribute == 76 ? 0 : attribute == 16 ? 132 : 1;
    return SUCCESS;
}
Result cuDeviceGetUuid_v2(unsigned char *uuid, int device) { memset(uuid, 0xa0 + device, 16); return SUCCESS; }
Result cuDevicePrimaryCtxRetain(void **context, int device) { *context = (void *)0x1000; return SUCCESS; }
Result cuCtxSetCurrent(void *context) { note("context %p\n", context); return SUCCESS; }
Result cuCtxGetCurrent(void **context) { *context = (void *)0x1000; return SUCCESS; }
Result cuStreamCreate(void **stream, unsigned flags) {
    static size_t streams = 0;
    *stream = (void *)(0x2000 + __sync_fetch_and_add(&streams, 1));
    note("stream %u\n", flags);
    return SUCCESS;
}
Result cuStreamDestroy_v2(void *stream) { note("leave %p\n", stream); return SUCCESS; }
Result cuStreamSynchronize(void *stream) { note("synchronize %p\n", stream); return SUCCESS; }
Result cuStreamWaitEvent(void *stream, void *event, unsigned flags) { note("wait %p %p\n", stream, event); return SUCCESS; }
Result cuEventCreate(void **event, unsigned flags) {
    static size_t events = 0;
    *event = (void *)(0x6000 + __sync_fetch_and_add(&events, 1));
    return SUCCESS;
}
Result cuEventDestroy_v2(void *event) { note("forget %p\n", event); return SUCCESS; }
Result cuEventRecord(void *event, void *stream) { note("event %p %p\n", stream, event); return SUCCESS; }
Result cuEventQuery(void *event) {
    static int asked = 0;
    return asked++ ? SUCCESS : NOT_READY;
}
Result cuEventSynchronize(void *event) { return SUCCESS; }
Result cuMemAlloc_v2(Pointer *address, size_t size) {
    if (size > (1ull << 40)) return OUT_OF_MEMORY;
    *address = (Pointer)malloc(size);
    note("allocate %zu\n", size);
    return SUCCESS;
}
Result cuMemFree_v2(Pointer address) { free((void *)address); note("free\n"); return SUCCESS; }
Result cuMemGetInfo_v2(size_t *left, size_t *all) { *left = 1u << 30; *all = 2u << 30; return SUCCESS; }
Result cuMemHostAlloc(void **address, size_t size, unsigned flags) { *address = malloc(size); return SUCCESS; }
Result cuMemcpyHtoDAsync_v2(Pointer target, const void *source, size_t size, void *stream) {
    memcpy((void *)target, source, size);
    note("upload %zu\n", size);
    return SUCCESS;
}
Result cuMemcpyDtoHAsync_v2(void *target, Pointer source, size_t size, void *stream) {
    memcpy(target, (void *)source, size);
    return SUCCESS;
}
Result cuMemcpyDtoDAsync_v2(Pointer target, Pointer source, size_t size, void *stream) {
    memcpy((void *)target, (void *)source, size);
    return SUCCESS;
}
Result cuMemsetD8Async(Pointer target, unsigned char value, size_t size, void *stream) {
    memset((void *)target, value, size);
    return SUCCESS;
}
Result cuModuleLoadData(void **module, const void *image) {
    *module = (void *)0x3000;
    return memcmp(image, "\x7f" "ELF", 4) ? NO_IMAGE : SUCCESS;
}
Result cuModuleGetFunction(void **function, void *module, const char *name) { *function = strdup(name); return SUCCESS; }
Result cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                      unsigned shared, void *stream, void **words, void **extra) {
    note("launch %u %u %u %u %u %u %p %llx\n", gx, gy, gz, bx, by, bz, stream, *(Pointer *)words[0]);
    return SUCCESS;
}
Result cuStreamBeginCapture_v2(void *stream, int mode) { note("begin %d\n", mode); return SUCCESS; }
Result cuStreamEndCapture(void *stream, void **graph) { *graph = (void *)0x4000; note("end\n"); return SUCCESS; }
Result cuGraphInstantiateWithFlags(void **graph, void *source, Pointer flags) {
    *graph = (void *)0x5000;
    note("instantiate\n");
    return setting("STUB_GRAPH", SUCCESS);
}
Result cuGraphLaunch(void *graph, void *stream) { note("replay %p %p\n", graph, stream); return SUCCESS; }
Result cuGraphDestroy(void *graph) { return SUCCESS; }
Result cuGraphExecDestroy(void *graph) { note("destroy\n"); return SUCCESS; }
Result cuGetErrorString(int error, const char **text) { *text = "error"; return SUCCESS; }
Result cuGetErrorName(int error, const char **text) { *text = "ERROR"; return SUCCESS; }
Result cuPointerGetAttribute(void *value, int attribute, Pointer address) {
    *(unsigned *)value = attribute == 2 ? 2 : attribute == 9 ? setting("STUB_ORDINAL", 0) : 0; /* memory type: device */
    return SUCCESS;
}
Result cuPointerGetAttributes(unsigned count, int *attributes, void **values, Pointer address) {
    for (unsigned i = 0; i < count; i++) cuPointerGetAttribute(values[i], attributes[i], address);
    return SUCCESS;
}
Result cuGetProcAddress_v2(const char *name, void **function, int version, Pointer flags, int *status) {
    static const char *endings[] = {"_v2", "WithFlags", ""};
    void *here = dlopen(getenv("STUB_LIBRARY"), RTLD_LAZY | RTLD_NOLOAD);
    *function = NULL;
    for (int i = 0; here && i < 3 && !*function; i++) {
        char versioned[128];
        snprintf(versioned, sizeof versioned, "%s%s", name, endings[i]);
        *function = dlsym(here, versioned);
    }
    if (status) *status = !*function;
    return SUCCESS;
}
Result cuGetProcAddress(const char *name, void **function, int version, Pointer flags) {
    return cuGetProcAddress_v2(name, function, version, flags, NULL);
}
