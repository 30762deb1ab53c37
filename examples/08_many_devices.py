"""
The same sweep on many devices, and on many hosts
=================================================

Run a sweep on several devices and on several hosts, and compare the results. A small
network is trained on real digits at sixteen rates: on one device, on eight virtual
devices of this machine, and by two processes that share the eight devices as two hosts
would. The script starts the processes itself.

``python examples/08_many_devices.py --help`` lists the options.
"""

import argparse
import json
import os
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import adaptax
from adaptax.bench.shared.arguments import at_least, folder
from adaptax.bench.shared.digits import bundled_digits
from adaptax.bench.shared.records import versions
from adaptax.spaces import log_grid

DEVICES = 8


# %%
# One program
# -----------
# Every process runs this function, with a mesh over the devices of all processes. The
# trial and the other arguments are the same as on one device.


def run_sweep(arguments, mesh):
    """Sweep the rates of a small network; the members are spread over the mesh."""
    digits = bundled_digits()

    def init_params(key):
        first, second = jax.random.split(key)
        return {
            "first": jax.random.normal(first, (784, 32)) / 28,
            "bias": jnp.zeros(32),
            "second": jax.random.normal(second, (32, 10)) / 32**0.5,
        }

    def loss(params, batch):
        pixels = batch["images"].reshape(-1, 784).astype(jnp.float32) / 255
        hidden = jax.nn.relu(pixels @ params["first"] + params["bias"])
        return optax.softmax_cross_entropy_with_integer_labels(
            hidden @ params["second"], batch["labels"]
        ).mean()

    trial = adaptax.trial(
        init_params,
        loss,
        lambda hparams: adaptax.adam(hparams["learning_rate"]),
        data={"images": digits.train_images, "labels": digits.train_labels},
        batch_size=32,
    )
    return adaptax.sweep(
        trial,
        {"learning_rate": log_grid(1e-4, 1e-1, arguments.rates)},
        num_steps=arguments.steps,
        strategy="map",
        mesh=mesh,
    )


# %%
# One host of several
# -------------------
# Each process has its share of the devices. ``jax.distributed.initialize`` connects the
# processes; on a cluster it needs no arguments.


def run_as_part(arguments):
    """Run as one of the processes: sweep with the others, and write the result."""
    jax.config.update("jax_num_cpu_devices", DEVICES // arguments.processes)
    if arguments.processes > 1:
        jax.distributed.initialize(
            f"127.0.0.1:{arguments.port}",
            arguments.processes,
            arguments.process,
            initialization_timeout=60,
        )
    mesh = jax.make_mesh((jax.device_count(),), ("members",))
    found = run_sweep(arguments, mesh if arguments.processes else None)
    name = f"{arguments.processes}-processes-{arguments.process}.npz"
    found.save(arguments.out / name)
    if arguments.processes > 1:
        jax.distributed.shutdown()


def start_processes(arguments, processes):
    """Start one process for each host, wait for all, and load the result of each.

    Their output goes to files: a process that fills a pipe which nobody reads stops.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for process in range(processes):
        command = [sys.executable, __file__, "--processes", processes]
        command += ["--process", process, "--port", port, "--out", arguments.out]
        command += ["--rates", arguments.rates, "--steps", arguments.steps]
        log = (arguments.out / f"{processes}-processes-{process}.log").open("w")
        with log:
            started.append(
                subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
            )
    try:
        codes = [process.wait(timeout=600) for process in started]
    finally:
        for process in started:
            process.kill()
    if any(codes):
        logs = sorted(arguments.out.glob(f"{processes}-processes-*.log"))
        sys.exit("\n".join(log.read_text() for log in logs))
    return [
        adaptax.SweepResult.load(arguments.out / f"{processes}-processes-{process}.npz")
        for process in range(processes)
    ]


# %%
# Results
# -------


def compare(alone, spread, hosts):
    """Measure how far the results differ, and the time of a member's step."""
    runs = {"one device": alone, "8 devices": spread, "2 processes": hosts[0]}

    def milliseconds(run):
        trained = run.about["seconds"] - run.about["compile_seconds"]
        return 1000 * trained / run.about["member_steps"]

    return {
        "cores": os.cpu_count(),
        "ms_per_member_step": {name: milliseconds(run) for name, run in runs.items()},
        "plan": {name: run.about["plan"] for name, run in runs.items()},
        "largest_relative_difference": {
            name: float(np.max(np.abs(run.scores / alone.scores - 1)))
            for name, run in runs.items()
        },
        "processes_agree_to_the_bit": bool(
            np.array_equal(hosts[0].losses, hosts[1].losses)
        ),
        "best_rate": {name: run.best["learning_rate"] for name, run in runs.items()},
    }


def plot(alone, spread, hosts):
    """Draw the scores of the three runs over the rate, and each member's device."""
    rates = alone.hparams["learning_rate"]
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(7, 5), sharex=True, layout="constrained", height_ratios=(3, 1)
    )
    for name, run, marker, size in (
        ("one device", alone, "o", 12),
        ("8 devices", spread, "s", 8),
        ("2 processes", hosts[0], ".", 5),
    ):
        above.plot(rates, run.scores[:, 0], marker, ms=size, label=name, alpha=0.7)
    above.set(xscale="log", yscale="log", ylabel="training loss")
    above.legend()
    devices = np.arange(len(rates)) % DEVICES  # members go to the devices in turn
    below.scatter(rates, devices, c=devices // (DEVICES // 2), cmap="coolwarm", s=20)
    below.set(xlabel="learning rate", ylabel="device", yticks=range(0, DEVICES, 2))
    below.set_title("colour: which of the two processes", fontsize="small")
    for axis in (above, below):
        axis.grid(alpha=0.3)
    return figure


def parse(argv):
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--rates", type=at_least(1), default=16)
    parser.add_argument("--steps", type=at_least(1), default=1000)
    parser.add_argument("--out", type=folder, default="runs/devices")
    parser.add_argument("--smoke", action="store_true", help="a run of seconds")
    for name in ("--processes", "--process", "--port"):  # for the started processes
        parser.add_argument(name, type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.smoke:
        arguments.rates, arguments.steps = 9, 10
    return arguments


def main(argv=None):
    """Sweep in three ways, compare, and write the results and a figure to --out."""
    arguments = parse(argv)
    if arguments.processes:
        return run_as_part(arguments)
    alone = run_sweep(arguments, mesh=None)
    (spread,) = start_processes(arguments, 1)
    hosts = start_processes(arguments, 2)
    results = {**compare(alone, spread, hosts), "versions": versions()}
    (arguments.out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    plot(alone, spread, hosts).savefig(arguments.out / "devices.png", dpi=120)
    print(f"{'':14} {'ms a step':>10} {'difference':>11} {'best rate':>10}")
    for name, taken in results["ms_per_member_step"].items():
        difference = results["largest_relative_difference"][name]
        best = results["best_rate"][name]
        print(f"{name:14} {taken:10.3f} {difference:11.1e} {best:10.2g}")
    print(f"The two processes agree: {results['processes_agree_to_the_bit']}.")
    return None


if __name__ == "__main__":
    main()
