"""Sections on the classes: confusion matrix, accuracy by class, and samples with what the network says of them."""

from collections.abc import Sequence

import numpy as np

from ..engine.evaluate import Answers
from ..wording import count
from .blocks import per_run, slug
from .charts import Chart, bar_chart, heat_map, series_colour
from .html import chart, escape, missing, paragraph, side_by_side, table
from .measure import Measured
from .pictures import Picture
from .record import RunRecord

MAX_MATRIX, MAX_BARS, MAX_CONFUSIONS = 60, 60, 8  # classes in a matrix and in a chart of bars; rows of a table


def classes_section(records: Sequence[RunRecord]) -> str:
    return per_run(records, lambda record, measured: class_charts(measured, slug(record, records), records.index(record)))


def class_charts(measured: Measured, number: str, place: int) -> str:
    answers = measured.answers
    matrix = answers.confusion()
    looked_at = f"{len(answers.labels):,} of {measured.total:,}" if len(answers.labels) < measured.total else "all"
    right = int(np.trace(matrix))
    text = paragraph(
        f"The network of the last checkpoint on {looked_at} {count(measured.total, 'test sample').partition(' ')[2]}"
        f"{', spread over the classes' if looked_at != 'all' else ''}: {right:,} right, {len(answers.labels) - right:,} wrong."
    )
    parts = [chart(accuracy_chart(answers, matrix, f"accuracy-{number}", series_colour(place)))]
    if len(answers.class_names) <= MAX_MATRIX:
        parts.insert(0, chart(confusion_chart(answers, matrix, f"confusion-{number}")))
    else:
        text += missing(
            f"The confusion matrix of {count(len(answers.class_names), 'class')} can't be read at this size; "
            "the most frequent confusions stand in its place."
        )
    return text + side_by_side(parts) + confusions_table(answers, matrix)


def confusion_chart(answers: Answers, matrix: np.ndarray, name: str) -> Chart:
    """Rows are what a sample is, columns what it was taken for."""
    names = answers.class_names
    return heat_map(
        name,
        "Confusion matrix: what a sample is, by row, and what it was taken for, by column",
        matrix.tolist(),
        names,
        names,
        x="taken for",
        y="class",
        unit="samples",
        whole=True,
    )


def accuracy_chart(answers: Answers, matrix: np.ndarray, name: str, colour: str) -> Chart:
    total = matrix.sum(1)
    shares = [100 * int(right) / int(of) if of else None for right, of in zip(np.diag(matrix), total, strict=True)]
    order, note = list(range(len(shares))), ""
    if len(shares) > MAX_BARS:
        order = sorted(order, key=lambda i: 101.0 if (share := shares[i]) is None else share)[:MAX_BARS]
        note = f"The {MAX_BARS} classes with the lowest accuracy, of {len(shares):,}."
    if unseen := int((total == 0).sum()):
        note += f" No sample of {count(unseen, 'class')} was looked at."
    labels = [answers.class_names[i] for i in order]
    bars = [("accuracy", colour, [shares[i] for i in order])]
    return bar_chart(name, "Accuracy by class", bars, labels, x="accuracy, %", percent=True, note=note.strip())


def confusions_table(answers: Answers, matrix: np.ndarray) -> str:
    wrong = matrix - np.diag(np.diag(matrix))
    places = np.argsort(-wrong, axis=None, kind="stable")[:MAX_CONFUSIONS]
    names = answers.class_names
    rows = [
        [names[i], names[j], int(wrong[i, j])]
        for i, j in zip(*np.unravel_index(places, wrong.shape), strict=True)
        if wrong[i, j]
    ]
    if not rows:
        return paragraph("No sample was taken for another class.")
    return table([["is", "taken for", "samples"], *rows], "The most frequent confusions")


def samples_section(records: Sequence[RunRecord]) -> str:
    text = paragraph("As the network sees them: the surest mistakes first, then right answers, one of each class in turn.")
    return text + per_run(records, lambda _, measured: gallery(measured.pictures))


def gallery(pictures: list[Picture]) -> str:
    steps = max((picture.frames for picture in pictures), default=1)
    player = (
        '<div class="player"><button type="button">Play</button><label>time step '
        f'<input type="range" min="1" max="{steps}" value="1"></label><output>1 of {steps}</output>'
        "<span>vermilion: ON events, blue: OFF</span></div>"
    )
    items = "".join(map(gallery_item, pictures))
    return f'<div>{player if steps > 1 else ""}<ul class="samples">{items}</ul></div>'


def gallery_item(picture: Picture) -> str:
    wrong = picture.label != picture.predicted
    said = f"{picture.predicted}, {100 * picture.probability:.1f} %"
    truth = f"wrong: is {picture.label}" if wrong else "right"
    style = f"aspect-ratio:{picture.width}/{picture.height};background-image:url({picture.uri})"
    style += f";background-size:100% {100 * picture.frames}%"
    what = f"recording of {count(picture.frames, 'frame')}" if picture.frames > 1 else "image"
    frames = f' data-frames="{picture.frames}"' if picture.frames > 1 else ""
    return (
        f'<li{" class=wrong" if wrong else ""}><div class="picture" role="img" '
        f'aria-label="{escape(what)} of class {escape(picture.label)}"{frames} style="{style}"></div>'
        f'<div class="words"><b>{escape(said)}</b><br>{escape(truth)}<small>sample {escape(picture.source)}</small></div></li>'
    )
