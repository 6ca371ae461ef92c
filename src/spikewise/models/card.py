"""The model card of a network, in Hugging Face's form: what is known of it, and nothing else."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..wording import count
from .convert import word_of
from .network import Network
from .registry import effective_options, find_model

MARK = "# made by spikewise with the weights, and made anew with them; without this line it is kept as it is"


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """What is known of a network beyond itself: all of it may be missing.

    recipe:     that it was trained by, with what was changed of it
    correct, total:  of the test split
    rates:      name of a block -> spikes per neuron and time step that leave its branch
    energy:     what was computed how -> microjoules of an inference, estimated
    samples:    test samples on which rates and energy were measured
    license:    of the weights, as Hugging Face names it: mit, cc-by-4.0, ...
    """

    recipe: str = ""
    correct: int = 0
    total: int = 0
    rates: Mapping[str, float] = field(default_factory=dict)
    energy: Mapping[str, float] = field(default_factory=dict)
    samples: int = 0
    license: str = ""


def model_card(net: Network, facts: TrainingFacts | None = None) -> str:
    """The text of a card: YAML between lines of three hyphens, then Markdown."""
    facts = facts or TrainingFacts()
    title = net.spec["name"] + (f" on {data_name(net)}" if data_name(net) else "")
    rows = "".join(f"| {name} | {value} |\n" for name, value in describe(net, facts).items())
    usage = 'import spikewise as sw\n\nnet = sw.load_pretrained("FOLDER")  # the one that this file is in\n'
    head = f"---\n{MARK}\n{front_matter(net, facts)}---\n\n# {title}\n\n```python\n{usage}```\n\n"
    return f"{head}| | |\n|---|---|\n{rows}"


def data_name(net: Network) -> str:
    return net.input_spec.data if net.input_spec is not None else ""


def front_matter(net: Network, facts: TrainingFacts) -> str:
    """Each value is JSON, which is YAML, too."""
    data, spec = data_name(net), net.input_spec
    entries: dict[str, object] = {"library_name": "spikewise", "tags": ["spiking-neural-network", net.spec["name"]]}
    if not net.spiking:
        entries["tags"] = [net.spec["name"]]
    if facts.license:
        entries["license"] = facts.license
    if spec is not None and spec.kind != "events":
        entries["pipeline_tag"] = "image-classification"
    if data:
        entries["datasets"] = [data]
    if data and facts.total:
        metric = {"type": "accuracy", "value": round(facts.correct / facts.total, 6)}
        task = {"type": "image-classification" if "pipeline_tag" in entries else "other"}
        result = {"task": task, "dataset": {"name": data, "type": data, "split": "test"}, "metrics": [metric]}
        entries["model-index"] = [{"name": net.spec["name"], "results": [result]}]
    return "".join(f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in entries.items())


def describe(net: Network, facts: TrainingFacts) -> dict[str, str]:
    """The rows of the card's table, those that are known."""
    entry = find_model(net.spec["name"])
    options = effective_options(entry, net.spec)
    words = [net.spec["name"]]
    words += [word_of(options["connect"])] if "connect" in entry.options else []
    words += [f"{word_of(options['neuron'])} neurons"] if net.spiking else []
    words += [f"T = {net.T}"] if net.spiking and entry.family != "event" else []  # recordings bring their own
    words.append(count(sum(parameter.numel() for parameter in net.parameters()), "parameter"))
    rows = {"network": ", ".join(words)}
    if (spec := net.input_spec) is not None:
        shape = " x ".join(map(str, spec.shape))
        frames = f", {count(spec.num_frames, 'frame')}" if spec.kind == "events" else ""
        rows["input"] = f"{spec.kind}, {shape}{frames}" + (f"; of {spec.data}" if spec.data else "")
    if names := net.class_names:
        more = f" and {len(names) - 10} more" if len(names) > 10 else ""
        rows["classes"] = ", ".join(name.replace("|", "\\|").replace("\n", " ") for name in names[:10]) + more
    if net.published is not None:
        run = net.published.run
        rows["source"] = (
            f"the authors' run {run.model}, epoch {net.published.epoch}; best {run.best:.2f} %, last {run.last:.2f} %"
        )
    if facts.recipe:
        rows["recipe"] = facts.recipe
    if facts.total:
        rows["test accuracy"] = f"{100 * facts.correct / facts.total:.2f} % ({facts.correct:,} of {facts.total:,})"
    measured = f", on {count(facts.samples, 'test sample')}"
    if facts.rates:
        rates = ", ".join(f"{name} {rate:.3f}" for name, rate in facts.rates.items())
        rows["spikes per neuron and step"] = rates + measured
    if facts.energy:
        energy = ", ".join(f"{what} {value:.3g} µJ" for what, value in facts.energy.items())
        rows["energy of an inference, estimated"] = energy + measured
    if facts.license:
        rows["licence"] = facts.license
    return rows
