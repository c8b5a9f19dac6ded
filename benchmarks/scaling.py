"""Images/s on many GPUs, calculated from one GPU's step and the bandwidths; nothing is run.

    python benchmarks/scaling.py [--step 0.0338 --batch 16 --parameters 26.12e6 --norms 53] [--between 40 1.25]

A data-parallel step takes what one GPU's takes, plus the sum of the gradients over all GPUs, plus two small sums for
each batch normalisation (statistics forward, their gradients backward), which only latency determines. Gradients are
summed within each machine of eight GPUs, then between the machines by a ring in which each GPU sends its eighth: a
ring of n sends 2 (n - 1) / n of the bytes (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters
of workstations", 2009). No overlap of communication and computation is assumed, and no slow machine, so the truth may
be on either side. Defaults: FPN/ResNet-50 at 512x512 in bfloat16 on one H100 (docs/results.md, "One GPU").
"""

from __future__ import annotations

import argparse

GPUS_PER_MACHINE, GRADIENT_BYTES, SUMS_PER_NORM = 8, 4, 2
# Time of a sum of a few kilobytes over so many GPUs, in seconds: assumed, of the order that NCCL's own tests report.
LATENCY = {1: 0.0, 8: 20e-6, 64: 40e-6, 512: 60e-6}


def step_seconds(
    gpus: int, step: float, parameters: float, norms: int, within: float, between: float
) -> tuple[float, float]:
    """Return seconds of a step, and of its sum of gradients; `within` and `between` machines in bytes/s per GPU."""
    gradient, machines = GRADIENT_BYTES * parameters, -(-gpus // GPUS_PER_MACHINE)
    local = min(gpus, GPUS_PER_MACHINE)
    sums = 2 * (local - 1) / local * gradient / within
    sums += 2 * (machines - 1) / machines * gradient / GPUS_PER_MACHINE / between
    return step + sums + SUMS_PER_NORM * norms * LATENCY[gpus], sums


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step", type=float, default=0.0338, help="seconds of a step on one GPU")
    parser.add_argument("--batch", type=int, default=16, help="images of a step on one GPU")
    parser.add_argument("--parameters", type=float, default=26.12e6, help="trainable parameters, float32 gradients")
    parser.add_argument("--norms", type=int, default=53, help="layers of batch normalisation")
    parser.add_argument("--within", type=float, default=200, help="GB/s of each GPU within a machine")
    parser.add_argument(
        "--between", type=float, nargs="+", default=[40, 1.25, 0.31], help="GB/s of each GPU between machines"
    )
    parser.add_argument("--core", type=float, default=108, help="images/s that one CPU core reads and augments")
    parser.add_argument("--kilobytes", type=float, default=70, help="size of an image and its mask in files")
    given = parser.parse_args()
    print("| Between machines | GPUs | gradients | step | images/s | of linear | CPU cores | read | files/s |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for gpus in LATENCY:
        for between in given.between if gpus > GPUS_PER_MACHINE else given.between[:1]:
            seconds, sums = step_seconds(
                gpus, given.step, given.parameters, given.norms, given.within * 1e9, between * 1e9
            )
            rate = gpus * given.batch / seconds
            print(
                f"| {f'{between:g} GB/s per GPU' if gpus > GPUS_PER_MACHINE else ''} | {gpus} | {sums * 1e3:.1f} ms "
                f"| {seconds * 1e3:.1f} ms | {rate:,.0f} | {given.step / seconds:.0%} | {rate / given.core:,.0f} "
                f"| {rate * given.kilobytes / 1e6:.2f} GB/s | {2 * rate:,.0f} |"
            )


if __name__ == "__main__":
    main()
