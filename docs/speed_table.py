"""Write the tables of docs/speed.md from results/speed. With --check, only say whether they are up to date."""

from __future__ import annotations

import json
from pathlib import Path

from marked import fill

ROOT = Path(__file__).parent.parent


def layers(found: dict) -> str:
    """The layers and their parts."""
    parts = [about(found), summary(found), *(group(g) for g in found["groups"]), memory(found["memory"])]
    return "\n\n".join(part for part in parts if part)


def about(found: dict) -> str:
    peak, quick = found["peak"], " Without the compiled loops (`--quick`)." if found["quick"] else ""
    return (
        f"Measured {found['date']}: {found['cpu']} ({found['level']}), {found['threads']} threads; Python "
        f"{found['python']}, torch {found['torch']}, ONNX Runtime {found['onnxruntime'] or 'not installed'}, lstmkit "
        f"{found['lstmkit']}; seed {found['seed']}. Peak {peak['flops'] / 1e9:.0f} GFLOP/s ({peak['source']}; "
        f"{peak['flops_after'] / 1e9:.0f} at the end of the run), memory "
        f"{found['bandwidth']['bytes'] / 1e9:.1f} GB/s; load of the machine before the start {found['load']}.{quick}"
    )


def summary(found: dict) -> str:
    lines = ["| case | against | geometric mean | least | target | |", "|---|---|--:|--:|--:|---|"]
    for g in found["groups"]:
        target = f"{g['target']:g}×" + (f", never under {g['floor']:g}×" if g["floor"] else "")
        if "mean" in g:
            against = " / ".join(g["against"])
            cells = f"{against} | **{g['mean']:.2f}×** | {g['least']:.2f}× | {target} | {met(g)}"
        else:
            cells = f"{' / '.join(sorted({row.get('refused', 'no peer') for row in g['rows']}))} | – | – | {target} | –"
        lines.append(f"| {g['title']} | {cells} |")
    for share in found["of_peak"]:
        kind = "forward" if share["group"] == "lstm-infer" else "training"
        lines.append(
            f"| LSTM {kind}, share of the FMA peak, H ≥ 128 and B ≥ 16 | the machine | **{share['mean']:.0%}** "
            f"| {share['least']:.0%} | {share['target']:.0%} in each | {met(share)} |"
        )
    return "\n".join(lines)


def met(result: dict) -> str:
    return {True: "met", False: "**not met**", None: f"not judged, {result.get('partly')}"}[result["met"]]


def group(g: dict) -> str:
    """One table a group, one line for each case and peer."""
    unit, scale = ("µs", 1e3) if g["group"] == "stream" else ("ms", 1.0)
    heads = f"B×T×I×H | back end | ours, {unit} | against | theirs, {unit} | ratio | quartiles | GFLOP | MB "
    heads += f"| limit by FMA, {unit} | by memory, {unit} | of the peak"
    lines = [f"| {heads} |", "|---|---|--:|---|" + "--:|" * 8]
    lines += [f"| {' | '.join(line)} |" for row in g["rows"] for line in case(row, scale)]
    compiled = [str(side["compile_s"]) for row in g["rows"] for side in row["sides"].values() if "compile_s" in side]
    after = f"\n\nCompiling took {', '.join(compiled)} s." if compiled else ""
    return f"### {g['title']}\n\n" + "\n".join(lines) + after


def case(row: dict, scale: float) -> list[list[str]]:
    """The lines of one case."""
    if "refused" in row:
        return [[row["case"], row.get("backend", "–"), row["refused"], *["–"] * 9]]
    limits = row["roofline"]
    numbers = [limits["flops"] / 1e9, limits["bytes"] / 1e6, scale * limits["fma_ms"], scale * limits["memory_ms"]]
    start = [row["case"], row["backend"], digits(scale * row["sides"]["ours"]["ms"])]
    end = [*map(digits, numbers), f"{limits['of_peak']:.0%}"]
    peers = [(name, side) for name, side in row["sides"].items() if name != "ours"]
    return [
        [*(start if k == 0 else [""] * 3), name, *peer(side, scale), *(end if k == 0 else [""] * 5)]
        for k, (name, side) in enumerate(peers)
    ]


def peer(side: dict, scale: float) -> list[str]:
    if "ratio" not in side:
        return [side.get("refused", "–"), "–", "–"]
    low, high = side["quartiles"]
    return [digits(scale * side["ms"]), f"**{side['ratio']:.2f}**", f"{low:.2f}–{high:.2f}"]


def digits(value: float) -> str:
    """Three of them, never as a power of ten."""
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}" if value >= 1 else f"{value:.4f}"


def memory(rows: list[dict]) -> str:
    if not rows:
        return ""
    lines = [
        "| B×T×I×H | kept for the backward pass, ours, MB | torch.nn, MB | most at any time, ours, MB | torch.nn, MB |",
        "|---|--:|--:|--:|--:|",
    ]
    for row in rows:
        ours, theirs = row["sides"]["ours"], row["sides"]["torch.nn"]
        numbers = [side[what] for what in ("saved", "peak") for side in (ours, theirs)]
        lines.append(f"| {row['case']} | " + " | ".join(f"{n:.1f}" for n in numbers) + " |")
    return "### Memory of an LSTM training step\n\n" + "\n".join(lines)


def text_models(found: dict) -> str:
    """Language models end to end: a row a model and kind of work."""
    means = ", ".join(f"{work} **{mean:.2f}×**" for work, mean in found["means"].items())
    lines = [
        f"Measured {found['date']}: {found['cpu']} ({found['level']}), {found['threads']} threads, torch "
        f"{found['torch']}, lstmkit {found['lstmkit']}. Geometric means: {means}; target {found['target']:g}×.",
        "",
        "| model | words × width, layers | batch × window | work | tokens/s | torch.nn | ratio | quartiles |",
        "|---|--:|--:|---|--:|--:|--:|--:|",
    ]
    return "\n".join([*lines, *map(text_model, found["rows"])])


def text_model(row: dict) -> str:
    """What was measured of one model at one kind of work."""
    cells = [
        row["name"],
        f"{row['vocabulary']:,} × {row['hidden']}, {row['layers']}",
        f"{row['batch']} × {row['window']}",
        row["work"],
        f"{row['tokens_s']:,.0f}",
        f"{row['torch_tokens_s']:,.0f}",
        f"**{row['ratio']:.2f}**",
        f"{row['low']:.2f}–{row['high']:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def jobs(records: dict[str, dict]) -> str:
    """Models of other jobs end to end: what was measured of each when, then a row a model and kind of work."""
    if not records:
        return "Not recorded yet."
    about = [
        f"- {name}: {found['date']}, {found['cpu']} ({found['level']}), {found['threads']} threads, load before "
        f"{found['load']}, torch {found['torch']}; " + ", ".join(f"{w} **{m:.2f}×**" for w, m in found["means"].items())
        for name, found in records.items()
    ]
    heads = [
        "| job | model | threads | work | in a second | ours | torch.nn | ratio | quartiles |",
        "|---|---|--:|---|---|--:|--:|--:|--:|",
    ]
    rows = [f"| {name} | {measured(row, found)} |" for name, found in records.items() for row in found["rows"]]
    return "\n".join(["Geometric means, target 1.3×:", "", *about, "", *heads, *rows])


def measured(row: dict, found: dict) -> str:
    """One model at one kind of work; of sound its real-time factor too."""
    unit, rates = row.get("unit", found["unit"]), [row["tokens_s"], row["torch_tokens_s"]]
    cells = [f"{rate:,.0f}" for rate in rates]
    if unit.startswith("seconds"):
        cells = [f"{cell} (real-time factor {1 / rate:.4f})" for cell, rate in zip(cells, rates, strict=True)]
    spread = f"{row['low']:.2f}–{row['high']:.2f}"
    threads = str(row.get("threads", found["threads"]))
    return " | ".join([row["name"], threads, row["work"], unit, *cells, f"**{row['ratio']:.2f}**", spread])


def gpu(found: dict | None) -> str:
    """Our designs beside cuDNN, or a compiled loop where cuDNN has no such layer: a line a case and design."""
    if found is None:
        return "Not recorded yet."
    chip = found["chip"]
    flops = ", ".join(f"{value / 1e12:.0f} TFLOP/s in {name}" for name, value in chip["flops"].items())
    groups = [f"{name} **{g['mean']:.2f}×** (least {g['least']:.2f}×)" for name, g in found["means"].items()]
    lines = [
        f"Measured {found['date']}: {found['gpu']}, CUDA {found['cuda']}, torch {found['torch']}, lstmkit "
        f"{found['lstmkit']}. Memory {chip['bandwidth'] / 1e12:.2f} TB/s, products {flops}. Geometric means of forward "
        f"and training, of the better design: {', '.join(groups)}.",
        "",
        "| layer | H | B | T | type | design | forward, ms | ratio | floor | training, ms | ratio | floor | floor is |",
        "|---|--:|--:|--:|---|---|" + "--:|" * 6 + "---|",
    ]
    return "\n".join(
        lines + [on_gpu(row, name, design) for row in found["rows"] for name, design in row["designs"].items()]
    )


def on_gpu(row: dict, name: str, design: dict) -> str:
    """A design's line; the floor is named by what most of it is in training."""
    options = [option.replace("_", " ") for option in row["options"]] + ["ragged"] * row["ragged"]
    about = [", ".join([row["kind"], *options]), *(str(row[key]) for key in ("units", "batch", "steps", "dtype")), name]
    if "forward" not in design:
        why = next(design[why] for why in ("refused", "failed", "wrong") if why in design)
        return f"| {' | '.join([*about, why, *['–'] * 6])} |"
    cells = []
    for work in ("forward", "training"):
        one = design[work]
        cells += [f"{one['ms']:.3f}", f"**{one['ratio']:.2f}**", f"{sum(one['floor_ms'].values()):.3f}"]
    floor = design["training"]["floor_ms"]
    return f"| {' | '.join([*about, *cells, max(floor, key=floor.__getitem__)])} |"


def startup(found: dict) -> str:
    """Seconds until a process has done its imports or printed its help: a line a case."""
    lines = [
        f"Measured {found['date']}: {found['cpu']} ({found['level']}), torch {found['torch']}; medians of "
        f"{found['rounds']} alternating runs, each in a process of its own.",
        "",
        "| case | seconds |",
        "|---|--:|",
    ]
    return "\n".join(lines + [f"| `{name}` | {seconds:.2f} |" for name, seconds in found["seconds"].items()])


def main() -> None:
    """Rewrite the parts of docs/speed.md between the marks."""
    page, folder = ROOT / "docs/speed.md", "results/speed"
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / folder).glob("*.json"))}
    fill(page, "speed", layers(found.pop("cpu_layers")), f"{folder}/cpu_layers.json")
    fill(page, "text", text_models(found.pop("language_model")), f"{folder}/language_model.json")
    fill(page, "gpu", gpu(found.pop("gpu_layers", None)), f"{folder}/gpu_layers.json")
    fill(page, "startup", startup(found.pop("startup")), f"{folder}/startup.json")
    fill(page, "jobs", jobs(found), folder)


if __name__ == "__main__":
    main()
