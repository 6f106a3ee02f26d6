"""What the PTX of each kernel of ``ptx_kernels.py`` has; a file of its own, which needs no toolkit."""

from __future__ import annotations

INSTRUCTIONS = {
    "tf32_product": {"mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32"},
    "bf16_product": {"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", "cvt.rn.bf16x2.f32"},
    "rounded": {"cvt.rna.tf32.f32", "cvt.rn.bf16x2.f32"},
    "through_matrices": {"ldmatrix.sync.aligned.m8n8.x4.shared.b16", "cp.async.cg.shared.global", "st.global.v4.f32"}
    | {"cp.async.commit_group", "cp.async.wait_group"},
    "through_copies": {"cp.async.ca.shared.global", "cp.async.commit_group", "cp.async.wait_group"},
    "sixteen_bytes": {"ld.global.v4.f32", "st.shared.v4.f32", "ld.shared.v4.f32", "st.global.v4.f32"},
}
