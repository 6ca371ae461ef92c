"""The pictures of docs/results, from the lines in benchmarks/results.

    .venv/bin/python benchmarks/plots.py

Of lines that measured the same thing on the same processor, the last counts.
"""

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

RESULTS = Path(__file__).parent / "results"
PAGES = Path(__file__).parent.parent / "docs" / "results"
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#e69f00", "#009e73", "#666666"  # of Okabe and Ito: told apart by colour-blind people
PEERS = {"ReLU twin": ORANGE, "SpikingJelly": GREEN}


def read(name: str) -> list[dict]:
    return [json.loads(line) for line in (RESULTS / f"{name}.jsonl").read_text().splitlines()]


def short(cpu: str) -> str:
    """A processor as a title can hold it."""
    return "Intel Xeon, with AMX" if "Intel" in cpu else "AMD EPYC (Zen 4)" if "AMD" in cpu else cpu


def steps() -> Figure:
    """Our time over a peer's, network by network and processor by processor."""
    found = {(line["cpu"], line["what"], line["peer"]): line for line in read("step") if line["peer"] in PEERS}
    cpus = sorted({cpu for cpu, *_ in found}, key=lambda cpu: "Intel" not in cpu)
    figure, axes = plt.subplots(
        1, len(cpus), figsize=(4.4 * len(cpus), 3.7), sharey=True, sharex=True, layout="constrained", squeeze=False
    )
    whats = list(dict.fromkeys(what for _, what, _ in found))[::-1]
    for ax, cpu in zip(axes[0], cpus, strict=True):
        for offset, (peer, colour) in zip((0.17, -0.17), PEERS.items(), strict=True):
            for row, what in enumerate(whats):
                if line := found.get((cpu, what, peer)):
                    low, high = line["interval"]
                    ax.barh(row + offset, line["ratio"], 0.32, color=colour, label=peer if not row else None)
                    ax.plot([low, high], [row + offset] * 2, color="black", lw=1)
                    ax.text(max(high, line["ratio"]) + 0.02, row + offset, f"{line['ratio']:.2f}", va="center", fontsize=8)
        ax.axvline(1, color=GREY, lw=1, ls=":")
        ax.set(title=short(cpu), xlim=(0, 1.35), yticks=range(len(whats)), yticklabels=whats)
        ax.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[0][0].get_legend_handles_labels()
    labels = [f"time of spikewise over that of {label}" for label in labels]
    figure.legend(handles, labels, loc="outside upper center", ncols=2, fontsize=8, frameon=False)
    figure.supxlabel("ratio of medians of paired rounds; less is faster; a time step against an image of the twin", fontsize=9)
    return figure


def scaling() -> Figure:
    """Time and kept bytes of a step against T and batch."""
    lines = read("scaling")
    figure, axes = plt.subplots(1, 2, figsize=(8.8, 3.4), layout="constrained")
    for axis, colour, marker in (("T", BLUE, "o"), ("batch", ORANGE, "s")):
        rows = {line[axis]: line for line in lines if line["what"].endswith(f"against {axis}")}
        x = sorted(rows)
        other = "batch 2" if axis == "T" else "T = 2"
        look = {"color": colour, "marker": marker, "ms": 4, "label": f"against {axis}, {other}"}
        axes[0].plot(x, [1e3 * rows[n]["seconds"] for n in x], **look)
        axes[1].plot(x, [rows[n]["kept_bytes"] / 2**20 for n in x], **look)
    for ax, label in zip(axes, ("ms per training step", "MiB kept for backward"), strict=True):
        ax.set(xlabel="T or batch", ylabel=label, xlim=0, ylim=0)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(fontsize=8, frameon=False)
    return figure


def main() -> None:
    plt.rcParams.update({"font.size": 9, "svg.hashsalt": "spikewise"})
    for name, figure in (("speed", steps()), ("scaling", scaling())):
        for kind in ("svg", "png"):
            figure.savefig(PAGES / f"{name}.{kind}", dpi=150, metadata={"Date": None} if kind == "svg" else None)


if __name__ == "__main__":
    main()
