"""What do the samples say?

A ratio is taken round by round, because the targets of one round ran within seconds of each other
and met the same neighbours; then the median of the ratios is shown with the least and the
greatest. The ratio of medians may differ from it a little.
"""

import math
import statistics

PEERS = ("nginx", "haproxy")
# Row and figure -> what Ringway is to have at most (or, where more is better, at least), as a ratio to
# the better peer.
ASKED = {
    ("get1k", "cpu"): 0.88, ("get1k", "rate"): 1.05, ("get1k", "p50"): 0.9, ("low", "added"): 1.0,
    ("get1m", "cpu"): 0.95, ("get64m", "cpu"): 1.0, ("get64m", "peak"): 0.5, ("put1m", "cpu"): 1.0,
    ("churn", "cpu"): 1.0, ("tls1k", "cpu"): 0.85, ("tlsnew", "cpu"): 0.8, ("h2c", "cpu"): 1.2, ("h2", "cpu"): 1.2,
}


def number(value):
    """Three digits that matter, and no more zeros than it takes."""
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def spread(values):
    if not values:
        return "-"
    if len(values) == 1:
        return number(values[0])
    return f"{number(statistics.median(values))} [{number(min(values))}-{number(max(values))}]"


def ratios(values, others):
    """The target's samples over another's, for rounds that both have. A sample of nothing or less
    (memory that did not grow, a latency under that of `direct`) has no ratio."""
    return [value / other for value, other in zip(values, others) if value > 0 and other > 0]


def best_peer(figure, samples):
    peers = [name for name in PEERS if samples.get(name)]
    pick = max if figure.more_is_better else min
    return pick(peers, key=lambda name: statistics.median(samples[name])) if peers else None


def lines(row, samples):
    """The table of one row; `samples` is figure's key -> target -> one value a round."""
    yield row.title
    for figure in row.figures:
        of_figure = samples[figure.key]
        best = best_peer(figure, of_figure)
        better = "more is better" if figure.more_is_better else "less is better"
        yield f"  {figure.title + ', ' + better:<62}  {'x nginx':<18}  x best" + (f" ({best})" if best else "")
        for name, values in of_figure.items():
            if not values:
                continue
            cells = [f"    {name:<10}", f"{spread(values):<46}"]
            for other in ("nginx", best):
                compared = name != other and of_figure.get(other)
                cells.append(f"{spread(ratios(values, of_figure[other])) if compared else '':<18}")
            yield "  ".join(cells).rstrip()
    yield ""


def gate(rows, samples):
    """Line by line what is asked and what was found; it is told and never judged here."""
    yield "Ringway to the better peer, and what is asked:"
    for row in rows:
        for figure in row.figures:
            asked = ASKED.get((row.name, figure.key))
            of_figure = samples.get(row.name, {}).get(figure.key, {})
            best = best_peer(figure, of_figure)
            found = ratios(of_figure.get("ringway", []), of_figure.get(best, []))
            if asked and found:
                bound = ">=" if figure.more_is_better else "<="
                yield f"  {row.name + ' ' + figure.title:<28} {statistics.median(found):.2f}  (asked {bound} {asked})"


def summary(samples):
    """Medians and ratios for the machine-readable result."""
    result = {}
    for row, figures in samples.items():
        for key, of_figure in figures.items():
            for name, values in of_figure.items():
                if not values:
                    continue
                entry = {"samples": values, "median": statistics.median(values)}
                for peer in PEERS:
                    found = ratios(values, of_figure.get(peer, []))
                    if found and peer != name:
                        entry[f"over_{peer}"] = statistics.median(found)
                result.setdefault(row, {}).setdefault(key, {})[name] = entry
    return result
