"""Write the tables of docs/speed.md from results/speed. With --check, only say whether they are up to date."""

from __future__ import annotations

import json
from pathlib import Path

from marked import fill

ROOT = Path(__file__).parent.parent


def layers(record: dict) -> str:
    """The layers: machine, summary, one table per group, memory."""
    parts = [about(record), summary(record), *(group(g) for g in record["groups"]), memory(record["memory"])]
    return "\n\n".join(part for part in parts if part)


def about(record: dict) -> str:
    peak, quick = record["peak"], " Without the compiled loops (`--quick`)." if record["quick"] else ""
    return (
        f"Measured {record['date']}: {record['cpu']} ({record['level']}), {record['threads']} threads; Python "
        f"{record['python']}, torch {record['torch']}, ONNX Runtime {record['onnxruntime'] or 'not installed'}, "
        f"lstmkit {record['lstmkit']}; seed {record['seed']}. Peak {peak['flops'] / 1e9:.0f} GFLOP/s "
        f"({peak['source']}; {peak['flops_after'] / 1e9:.0f} at the end of the run), memory "
        f"{record['bandwidth']['bytes'] / 1e9:.1f} GB/s; load of the machine before the start {record['load']}.{quick}"
    )


def summary(record: dict) -> str:
    lines = ["| case | peer | geometric mean | minimum | target | |", "|---|---|--:|--:|--:|---|"]
    for g in record["groups"]:
        target = f"{g['target']:g}×" + (f", minimum {g['floor']:g}×" if g["floor"] else "")
        if "mean" in g:
            against = " / ".join(g["against"])
            cells = f"{against} | **{g['mean']:.2f}×** | {g['least']:.2f}× | {target} | {met(g)}"
        else:
            cells = f"{' / '.join(sorted({row.get('refused', 'no peer') for row in g['rows']}))} | – | – | {target} | –"
        lines.append(f"| {g['title']} | {cells} |")
    for fraction in record["of_peak"]:
        kind = "forward" if fraction["group"] == "lstm-infer" else "training"
        lines.append(
            f"| LSTM {kind}, fraction of the FMA peak, H ≥ 128 and B ≥ 16 | – | **{fraction['mean']:.0%}** "
            f"| {fraction['least']:.0%} | {fraction['target']:.0%} in each case | {met(fraction)} |"
        )
    return "\n".join(lines)


def met(result: dict) -> str:
    return {True: "met", False: "**not met**", None: f"not judged, {result.get('partly')}"}[result["met"]]


def int8(record: dict) -> str:
    """LSTM layers with weights in 8 bits, one line per size."""
    means, vnni = record["means"], "with" if record["vnni"] else "without"
    lines = [
        f"Measured {record['date']}: {record['cpu']} ({record['level']}, {vnni} VNNI), {record['threads']} thread, "
        f"torch {record['torch']}, ONNX Runtime {record['onnxruntime']}, lstmkit {record['lstmkit']}; "
        f"{record['steps']} steps, as many inputs as units. Geometric means: **{means['to float32']:.2f}×** of our "
        f"float32, **{means['to onnx int8']:.2f}×** of `DynamicQuantizeLSTM`, in a stream "
        f"**{means['stream to float32']:.2f}×** of our float32.",
        "",
        "| units | batch | float32, ms | int8, ms | ratio | `DynamicQuantizeLSTM`, ms | ratio | stream float32, ms "
        "| stream int8, ms | ratio | difference | ONNX's |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in record["rows"]:
        ms, off = row["milliseconds"], row["difference"]
        lines.append(
            f"| {row['units']} | {row['batch']} | {ms['float32']:.2f} | {ms['int8']:.2f} | **{row['to float32']:.2f}** "
            f"| {ms['onnx int8']:.2f} | **{row['to onnx int8']:.2f}** | {ms['stream float32']:.2f} "
            f"| {ms['stream int8']:.2f} | **{row['stream to float32']:.2f}** | {off['int8']:.4f} "
            f"| {off['onnx int8']:.4f} |"
        )
    return "\n".join(lines)


def group(g: dict) -> str:
    """One table per group, one line per case and peer."""
    unit, scale = ("µs", 1e3) if g["group"] == "stream" else ("ms", 1.0)
    heads = f"B×T×I×H | back end | lstmkit, {unit} | peer | peer, {unit} | ratio | quartiles | GFLOP | MB "
    heads += f"| FMA limit, {unit} | memory limit, {unit} | fraction of peak"
    lines = [f"| {heads} |", "|---|---|--:|---|" + "--:|" * 8]
    lines += [f"| {' | '.join(line)} |" for row in g["rows"] for line in case(row, scale)]
    peers = [times for row in g["rows"] for times in row["implementations"].values()]
    compiled = [str(times["compile_s"]) for times in peers if "compile_s" in times]
    after = f"\n\nCompilation took {', '.join(compiled)} s." if compiled else ""
    return f"### {g['title']}\n\n" + "\n".join(lines) + after


def case(row: dict, scale: float) -> list[list[str]]:
    """The lines of one case."""
    if "refused" in row:
        return [[row["case"], row.get("backend", "–"), row["refused"], *["–"] * 9]]
    limits = row["roofline"]
    numbers = [limits["flops"] / 1e9, limits["bytes"] / 1e6, scale * limits["fma_ms"], scale * limits["memory_ms"]]
    start = [row["case"], row["backend"], digits(scale * row["implementations"]["lstmkit"]["ms"])]
    end = [*map(digits, numbers), f"{limits['of_peak']:.0%}"]
    peers = [(name, times) for name, times in row["implementations"].items() if name != "lstmkit"]
    return [
        [*(start if k == 0 else [""] * 3), name, *peer(times, scale), *(end if k == 0 else [""] * 5)]
        for k, (name, times) in enumerate(peers)
    ]


def peer(times: dict, scale: float) -> list[str]:
    if "ratio" not in times:
        return [times.get("refused", "–"), "–", "–"]
    low, high = times["quartiles"]
    return [digits(scale * times["ms"]), f"**{times['ratio']:.2f}**", f"{low:.2f}–{high:.2f}"]


def digits(value: float) -> str:
    """At least three digits, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}" if value >= 1 else f"{value:.4f}"


def memory(rows: list[dict]) -> str:
    if not rows:
        return ""
    lines = [
        "| B×T×I×H | saved for the backward pass, lstmkit, MB | torch.nn, MB | peak, lstmkit, MB | torch.nn, MB |",
        "|---|--:|--:|--:|--:|",
    ]
    for row in rows:
        both = row["implementations"]["lstmkit"], row["implementations"]["torch.nn"]
        numbers = [megabytes[what] for what in ("saved", "peak") for megabytes in both]
        lines.append(f"| {row['case']} | " + " | ".join(f"{n:.1f}" for n in numbers) + " |")
    return "### Memory of an LSTM training step\n\n" + "\n".join(lines)


def text_models(record: dict) -> str:
    """Language models end to end: one row per model and kind of work."""
    means = ", ".join(f"{work} **{mean:.2f}×**" for work, mean in record["means"].items())
    lines = [
        f"Measured {record['date']}: {record['cpu']} ({record['level']}), {record['threads']} threads, torch "
        f"{record['torch']}, lstmkit {record['lstmkit']}. Geometric means: {means}; target {record['target']:g}×.",
        "",
        "| model | vocabulary × units, layers | batch × window | work "
        "| lstmkit, tokens/s | torch.nn | ratio | quartiles |",
        "|---|--:|--:|---|--:|--:|--:|--:|",
    ]
    return "\n".join([*lines, *map(text_model, record["rows"])])


def text_model(row: dict) -> str:
    """The row of one model and kind of work."""
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
    """Models of other jobs end to end: date and machine of each job, then one row per model and kind of work."""
    if not records:
        return "Not recorded yet."
    about = [
        f"- {name}: {record['date']}, {record['cpu']} ({record['level']}), {record['threads']} threads, load before "
        f"{record['load']}, torch {record['torch']}; "
        + ", ".join(f"{w} **{m:.2f}×**" for w, m in record["means"].items())
        for name, record in records.items()
    ]
    heads = [
        "| job | model | threads | work | unit, per second | lstmkit | torch.nn | ratio | quartiles |",
        "|---|---|--:|---|---|--:|--:|--:|--:|",
    ]
    rows = [f"| {name} | {measured(row, record)} |" for name, record in records.items() for row in record["rows"]]
    return "\n".join(["Geometric means, target 1.3×:", "", *about, "", *heads, *rows])


def measured(row: dict, record: dict) -> str:
    """The row of one model and kind of work; for audio with the real-time factor."""
    unit, rates = row.get("unit", record["unit"]), [row["tokens_s"], row["torch_tokens_s"]]
    cells = [f"{rate:,.0f}" for rate in rates]
    if unit.startswith("seconds"):
        cells = [f"{cell} (real-time factor {1 / rate:.4f})" for cell, rate in zip(cells, rates, strict=True)]
    spread = f"{row['low']:.2f}–{row['high']:.2f}"
    threads = str(row.get("threads", record["threads"]))
    return " | ".join([row["name"], threads, row["work"], unit, *cells, f"**{row['ratio']:.2f}**", spread])


def gpu(record: dict | None) -> str:
    """The GPU back ends compared with cuDNN, or with a compiled loop if cuDNN lacks the layer: one row per case."""
    if record is None:
        return "Not recorded yet."
    chip = record["chip"]
    flops = ", ".join(f"{value / 1e12:.0f} TFLOP/s in {name}" for name, value in chip["flops"].items())
    groups = [f"{name} **{g['mean']:.2f}×** (minimum {g['least']:.2f}×)" for name, g in record["means"].items()]
    lines = [
        f"Measured {record['date']}: {record['gpu']}, CUDA {record['cuda']}, torch {record['torch']}, lstmkit "
        f"{record['lstmkit']}. Memory {chip['bandwidth'] / 1e12:.2f} TB/s, matrix products {flops}. Geometric means of "
        f"forward pass and training, of the faster back end: {', '.join(groups)}.",
        "",
        "| layer | H | B | T | dtype | back end "
        "| forward, ms | ratio | floor | training, ms | ratio | floor | main part |",
        "|---|--:|--:|--:|---|---|" + "--:|" * 6 + "---|",
    ]
    return "\n".join(
        lines + [on_gpu(row, name, design) for row in record["rows"] for name, design in row["designs"].items()]
    )


def on_gpu(row: dict, name: str, design: dict) -> str:
    """The row of one back end; the last column is the largest part of the floor in training."""
    options = [option.replace("_", " ") for option in row["options"]] + ["ragged"] * row["ragged"]
    about = [", ".join([row["kind"], *options]), *(str(row[key]) for key in ("units", "batch", "steps", "dtype")), name]
    if "forward" not in design:
        why = next(design[why] for why in ("refused", "failed", "wrong") if why in design)
        return f"| {' | '.join([*about, why, *['–'] * 6])} |"
    cells = []
    for work in ("forward", "training"):
        times = design[work]
        floor = sum(times["floor_ms"].values())
        cells += [f"{times['ms']:.3f}", f"**{times['ratio']:.2f}**", f"{floor:.3f}"]
    parts = design["training"]["floor_ms"]
    return f"| {' | '.join([*about, *cells, max(parts, key=parts.__getitem__)])} |"


def startup(record: dict) -> str:
    """Seconds until a process has imported the package or printed its help: one row per case."""
    lines = [
        f"Measured {record['date']}: {record['cpu']} ({record['level']}), torch {record['torch']}; medians of "
        f"{record['rounds']} alternating runs, each in its own process.",
        "",
        "| case | seconds |",
        "|---|--:|",
    ]
    return "\n".join(lines + [f"| `{name}` | {seconds:.2f} |" for name, seconds in record["seconds"].items()])


def main() -> None:
    """Write the generated sections of docs/speed.md."""
    page, folder = ROOT / "docs/speed.md", "results/speed"
    records = {
        path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / folder).glob("*.json"))
    }
    fill(page, "speed", layers(records.pop("cpu_layers")), f"{folder}/cpu_layers.json")
    fill(page, "int8", int8(records.pop("int8_layers")), f"{folder}/int8_layers.json")
    fill(page, "text", text_models(records.pop("language_model")), f"{folder}/language_model.json")
    fill(page, "gpu", gpu(records.pop("gpu_layers", None)), f"{folder}/gpu_layers.json")
    fill(page, "startup", startup(records.pop("startup")), f"{folder}/startup.json")
    fill(page, "jobs", jobs(records), folder)


if __name__ == "__main__":
    main()
