"""Convolution problems, one line each, that every algorithm of every backend has to get right."""

from __future__ import annotations

from numbacnn.backends.geometry import Conv2dGeometry

# n c h [w] k r [rw] s [sw] p [pb pw pr] [d dw] [g]: see Conv2dGeometry.descriptor.
CONV2D_DESCRIPTORS = (
    # one pixel, one channel
    "n1c1h1k1r1s1p0",
    "n2c3h1k5r1s1p0",
    "n1c2h1k3r3s1p1",
    # kernel larger than the image, most of the window over padding
    "n1c1h1k2r5s1p2",
    "n2c2h2w3k3r7s1p3",
    "n1c3h2k2r4s3p2pb3pw1pr2",
    # 1x1: the image is its own column matrix, or with stride or padding is not
    "n2c17h7k5r1s1p0",
    "n7c4h3w5k18r1s1p0g2",  # several whole images side by side
    "n2c4h6k18r1s1p0pb1",
    "n3c5h6w9k17r1s2p0",
    "n1c3h4k2r1s1p1",
    # 3x3, the usual one, on ragged sizes
    "n1c1h8k1r3s1p1",
    "n2c3h11w7k17r3s1p1",
    "n3c17h5k3r3s1p0",
    "n2c5h9k2r3s2p1",
    "n1c17h10w11k17r3s2p0",
    "n5c2h3k2r3s1p1",
    "n1c16h33w17k32r3s1p1",
    # many channels in, few out
    "n3c34h4k4r3s1p0g2",
    "n1c20h7k4r3s2p1d2dw1",
    "n5c33h3k4r1s1p0",
    # other kernels and strides
    "n2c1h12k6r5s1p2",
    "n2c6h10k16r5s1p0",
    "n1c3h23k5r7s2p3",
    "n1c3h27w19k8r11s4p2",
    "n2c2h9k3r1rw5s1p0pw2",
    "n2c3h8w10k2r5rw3s3sw4p2pw1",
    "n1c2h9k3r2s3p0",
    # lopsided padding
    "n2c3h6k4r4s1p1pb2",
    "n1c2h5w6k3r3s1p0pb2pw1pr0",
    "n1c5h7k2r2s2p1pb0pw0pr1",
    # dilated
    "n2c3h9k5r3s1p2d2",
    "n1c2h10w12k3r3s2p3d3dw2",
    "n1c1h7k1r3rw2s1p0d1dw4",
    # grouped and depthwise
    "n2c4h6k6r3s1p1g2",
    "n1c6h7w5k9r3s2p1g3",
    "n2c10h5k5r1s1p0g5",
    "n2c5h8k5r3s1p1g5",
    "n1c17h6k17r3s2p1g17",
    "n2c3h7k6r5s1p2d2g3",
    # an empty batch
    "n0c3h6k5r3s1p1",
)

CONV2D_CASES = tuple(Conv2dGeometry.parse(descriptor) for descriptor in CONV2D_DESCRIPTORS)
