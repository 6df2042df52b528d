"""How well a power law predicts the quantiles of attention scores (figures 2, 3, 7 and 8)."""

import math
import statistics

from .style import COLOURS, Figure, legend_below, number, panels, text_name

PERCENTILES = (5, 25, 50, 75, 95)


def percentile(values, share):
    """Interpolated linearly, as NumPy does."""
    ordered = sorted(values)
    position = (len(ordered) - 1) * share / 100
    lower = math.floor(position)
    upper = min(lower + 1, len(ordered) - 1)
    return ordered[lower] + (position - lower) * (ordered[upper] - ordered[lower])


def fits_of(study, text):
    return [fit for cell in study.of_kind("powerlaw", text=text)
            for fit in cell["result"]["fits"]]


def kinds(fits):
    """{(level, rows)}: rows is None for the fits over all rows."""
    found = {}
    for fit in fits:
        rows = None if fit["all_rows"] else fit["fitted_rows"]
        if fit["r_squared"] is not None:
            found.setdefault((fit["level"], rows), []).append(fit["r_squared"])
    return found


def rows_label(rows):
    return "all" if rows is None else str(rows)


def sample_figure(study, text):
    cells = study.of_kind("powerlaw", text=text)
    shown = cells[0]["result"]["series"]
    if not shown:
        return None
    drawing, axes = panels(len(shown), width=2.6, height=2.7)
    for axis, series in zip(axes, shown):
        keys = [point[0] for point in series["keys_and_ln_theta"]]
        theta = [math.exp(point[1]) for point in series["keys_and_ln_theta"]]
        axis.loglog(keys, theta, ".", markersize=3, color=COLOURS[0], label="quantile θ")
        for colour, rows in ((COLOURS[1], None), (COLOURS[2], 128)):
            law = [fit for fit in cells[0]["result"]["fits"]
                   if fit["layer"] == series["layer"] and fit["head"] == series["head"]
                   and fit["level"] == series["level"]
                   and (fit["all_rows"] if rows is None else fit["fitted_rows"] == rows)]
            if law:
                curve = [law[0]["alpha"] * key ** -law[0]["beta"] for key in keys]
                label = "fit on all rows" if rows is None else f"fit on w = {rows}"
                axis.loglog(keys, curve, color=colour, label=label,
                            linestyle="-" if rows is None else "--")
        axis.set_ylim(min(theta) / 3, max(theta) * 3)
        axis.set_title(f"layer {series['layer']}, head {series['head']}: "
                       f"R² = {series['r_squared']:.2f}", fontsize=9)
        axis.set_xlabel("visible keys S")
    axes[0].set_ylabel(f"τ = {shown[0]['level']:g} quantile θ")
    legend_below(drawing, axes)
    return Figure(f"power_law_samples_{text}", f"Quantiles and their power law, {text_name(text)}",
                  "The quantile of the attention scores over the keys that a row sees, for heads "
                  "whose R² (over all rows) stands at the 5th, 25th, 50th and 95th percentile of "
                  "all heads of the first window.", drawing, [])


def summary_table(found):
    rows = []
    for level, fitted in sorted(found, key=lambda kind: (kind[0], kind[1] or 0)):
        values = found[(level, fitted)]
        negative = sum(value < 0 for value in values) / len(values)
        rows.append([f"{level:g}", rows_label(fitted),
                     *[number(percentile(values, share)) for share in PERCENTILES],
                     f"{100 * negative:.1f} %", str(len(values))])
    heads = ["τ", "fitted on", *[f"{share} %" for share in PERCENTILES], "negative", "fits"]
    return heads, rows


def score_figure(study, text):
    found = kinds(fits_of(study, text))
    levels = sorted({level for level, _ in found})
    drawing, axes = panels(len(levels), width=2.7, sharey=True)
    for axis, level in zip(axes, levels):
        rows = sorted((rows for known, rows in found if known == level),
                      key=lambda value: math.inf if value is None else value)
        boxes = []
        for fitted in rows:
            low, first, middle, third, high = (percentile(found[(level, fitted)], share)
                                               for share in PERCENTILES)
            boxes.append({"whislo": low, "q1": first, "med": middle, "q3": third, "whishi": high,
                          "label": rows_label(fitted)})
        axis.bxp(boxes, showfliers=False, patch_artist=True, widths=0.6,
                 boxprops={"facecolor": COLOURS[4], "alpha": 0.6},
                 medianprops={"color": COLOURS[1]})
        axis.axhline(0, color="black", linewidth=0.6)
        axis.set_ylim(-1.05, 1.05)
        axis.set_title(f"τ = {level:g}")
        axis.set_xlabel("rows fitted on, w")
    axes[0].set_ylabel("R² over all rows")
    heads, table = summary_table(found)
    return Figure(f"r_squared_{text}", f"R² of the power law, {text_name(text)}",
                  "R² in log space, scored over all rows, of laws fitted on the first w rows, over "
                  "windows, layers and heads: median, quartiles, and 5th to 95th percentile "
                  "(whiskers that leave the figure go on in the table).", drawing,
                  [(f"R² over windows, layers and heads, {text_name(text)}", heads, table)])


def layer_figure(study):
    texts = [text for text in study.texts() if study.of_kind("powerlaw", text=text)]
    drawing, axes = panels(len(texts), width=3.6, sharey=True)
    for axis, text in zip(axes, texts):
        by_layer = {}
        for fit in fits_of(study, text):
            if fit["all_rows"] and fit["r_squared"] is not None:
                by_layer.setdefault(fit["level"], {}).setdefault(fit["layer"], []).append(
                    fit["r_squared"])
        for index, level in enumerate(sorted(by_layer)):
            layers = sorted(by_layer[level])
            axis.plot(layers, [statistics.median(by_layer[level][layer]) for layer in layers],
                      color=COLOURS[index], label=f"τ = {level:g}")
        axis.set_title(text_name(text))
        axis.set_xlabel("layer")
    axes[0].set_ylabel("median R² over heads")
    legend_below(drawing, axes)
    return Figure("r_squared_by_layer", "R² by layer",
                  "Median over heads and windows of R² of the fit over all rows.", drawing, [])


def figures(study):
    texts = [text for text in study.texts() if study.of_kind("powerlaw", text=text)]
    drawn = [sample_figure(study, text) for text in texts]
    drawn += [score_figure(study, text) for text in texts]
    if texts:
        drawn.append(layer_figure(study))
    return [figure for figure in drawn if figure]
