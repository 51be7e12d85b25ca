"use strict";
// The gates of a layer: heat maps of all units, the lines of one unit, and a step that plays.

const trace = JSON.parse(document.getElementById("trace")?.textContent || "null");

const COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8a6100", "#1b1b1b"];
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];
const SIGMOID = ["forget", "input", "output", "update", "reset"];
const STEPS_A_SECOND = 8;
const hasMouse = window.matchMedia("(pointer: fine)").matches; // on a phone a drag scrolls the page
const byId = (id) => document.getElementById(id);
const axis = { gridcolor: "#e2e2e2", zeroline: false, automargin: true };
const font = { family: "system-ui, sans-serif", size: 13, color: "#1b1b1b" };

function look() {
  const names = Object.keys(trace.gates);
  const columns = trace.steps.length;
  const hasUnits = (name) => trace.gates[name].length === trace.units.length;
  const row = (name, unit) => trace.gates[name][hasUnits(name) ? trace.units.indexOf(unit) : unit % trace.gates[name].length];
  const stepName = (column) => {
    const step = trace.steps[column];
    return trace.has_labels ? `step ${step}: ${trace.labels[column]}` : `step ${step}`;
  };
  // The axis of steps: with the words or characters of a text, as many as there is room for.
  const stepAxis = (element) => {
    if (!trace.has_labels || trace.values) return { ...axis, title: { text: "step" } };
    const every = Math.ceil((16 * columns) / Math.max(100, element.clientWidth - 60));
    const shown = trace.steps.map((_, k) => k).filter((k) => k % every === 0);
    const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
    const angle = trace.labels.some((label) => label.length > 1) ? -90 : 0;
    const ticks = { tickmode: "array", tickvals: shown.map((k) => trace.steps[k]), ticktext: shown.map((k) => plain(trace.labels[k])), tickangle: angle };
    return { ...axis, ...ticks, title: { text: every > 1 ? `one of ${every} labels` : "" } };
  };
  const maps = [];
  let unit = Number(byId("unit").value);
  let column = 0;
  let timer = null;

  const cursor = (extra = []) => [
    { type: "line", xref: "x", yref: "paper", x0: trace.steps[column], x1: trace.steps[column], y0: 0, y1: 1, line: { color: "#1b1b1b", width: 1.5 } },
    ...extra,
  ];

  function drawUnit() {
    const data = names.map((name, k) => ({
      type: "scatter", mode: "lines", name, x: trace.steps, y: row(name, unit), line: { color: COLORS[k % COLORS.length], dash: DASHES[k % DASHES.length], width: 1.7 },
    }));
    const layout = {
      height: trace.values ? 400 : 300, margin: { l: 48, r: 12, t: 70, b: 44 }, font, dragmode: hasMouse ? "select" : false, selectdirection: "h", hovermode: "x",
      showlegend: true, legend: { orientation: "h", x: 0, y: 1, yref: "container", yanchor: "top" },
      xaxis: { ...stepAxis(byId("unit-plot")), anchor: trace.values ? "y2" : "y" }, yaxis: { ...axis, domain: trace.values ? [0.36, 1] : [0, 1] }, shapes: cursor(),
    };
    if (trace.values) {
      data.push({ type: "scatter", mode: "lines", x: trace.steps, y: trace.values, yaxis: "y2", showlegend: false, name: trace.value_name, line: { color: "#1b1b1b", width: 1.4 } });
      layout.yaxis2 = { ...axis, domain: [0, 0.28], nticks: 4 };
    }
    byId("unit-name").textContent = unit;
    return studio.draw(byId("unit-plot"), { data, layout });
  }

  function drawMap(name) {
    const figure = document.createElement("figure");
    figure.className = "chart";
    const plot = document.createElement("div");
    plot.className = "plot";
    plot.setAttribute("role", "img");
    plot.setAttribute("aria-label", `${name}: units by steps`);
    const caption = document.createElement("figcaption");
    const isGate = SIGMOID.includes(name);
    const values = trace.gates[name];
    const units = hasUnits(name) ? trace.units : values.map((_, k) => k);
    const largest = Math.max(...values.map((line) => Math.max(...line.map(Math.abs)))) || 1;
    caption.textContent = isGate ? `${name} gate: white is closed (0), blue open (1)` : `${name}: red is below 0, blue above`;
    figure.append(plot, caption);
    byId("maps").append(figure);
    const data = [{
      type: "heatmap", x: trace.steps, y: units.map((u) => `unit ${u}`), z: values, showscale: false, hovertemplate: "%{y}, step %{x}: %{z}<extra></extra>",
      zmin: isGate ? 0 : -largest, zmax: isGate ? 1 : largest,
      colorscale: isGate ? [[0, "#ffffff"], [1, "#00507d"]] : [[0, "#b2431e"], [0.5, "#ffffff"], [1, "#00507d"]],
    }];
    const layout = {
      height: 240, margin: { l: 48, r: 12, t: 8, b: 44 }, font, dragmode: false, hovermode: "closest",
      xaxis: stepAxis(plot), yaxis: { ...axis, type: "category", showticklabels: false, ticks: "", title: { text: "units" } }, shapes: cursor(),
    };
    const drawn = studio.draw(plot, { data, layout });
    maps.push(plot);
    drawn.then(() => {
      plot.on("plotly_hover", (event) => chooseUnit(units[event.points[0].pointIndex[0]]));
      plot.on("plotly_click", (event) => {
        chooseUnit(units[event.points[0].pointIndex[0]]);
        goTo(event.points[0].pointIndex[1]);
      });
    });
  }

  function chooseUnit(chosen) {
    if (chosen === unit || !trace.units.includes(chosen)) return;
    unit = chosen;
    byId("unit").value = unit;
    drawUnit();
    showNow();
  }

  function showNow() {
    const head = document.createElement("tr");
    const cells = document.createElement("tr");
    const entry = (parent, tag, text) => {
      const cell = document.createElement(tag);
      cell.textContent = text;
      parent.append(cell);
    };
    entry(head, "th", "step");
    entry(cells, "td", trace.steps[column]);
    if (trace.has_labels) {
      entry(head, "th", "label");
      entry(cells, "td", trace.labels[column]);
    }
    for (const name of names) {
      entry(head, "th", name);
      entry(cells, "td", row(name, unit)[column].toFixed(3));
    }
    byId("now").replaceChildren(head, cells);
  }

  function goTo(next) {
    column = next;
    byId("step").value = column;
    byId("step").setAttribute("aria-valuetext", stepName(column));
    byId("step-label").textContent = stepName(column);
    for (const plot of [byId("unit-plot"), ...maps]) Plotly.relayout(plot, { shapes: cursor() });
    showNow();
  }

  function play(on) {
    window.clearInterval(timer);
    timer = on ? window.setInterval(() => (column + 1 < columns ? goTo(column + 1) : play(false)), 1000 / STEPS_A_SECOND) : null;
    byId("play").textContent = on ? "Pause" : "Play";
    byId("play").setAttribute("aria-pressed", String(on));
  }

  byId("play").addEventListener("click", () => {
    if (timer === null && column + 1 >= columns) goTo(0);
    play(timer === null);
  });
  byId("step").addEventListener("input", () => goTo(Number(byId("step").value)));
  byId("unit").addEventListener("input", () => chooseUnit(Number(byId("unit").value)));
  document.querySelectorAll("[data-take]").forEach((button) => {
    button.addEventListener("click", () => {
      byId(button.dataset.take).value = trace.steps[column];
    });
  });

  drawUnit().then(() => {
    byId("unit-plot").on("plotly_selected", (event) => {
      if (!event || !event.range) return;
      const inside = trace.steps.filter((step) => event.range.x[0] <= step && step <= event.range.x[1]);
      if (!inside.length) return;
      byId("start").value = inside[0];
      byId("last").value = inside[inside.length - 1] + trace.per_column - 1;
    });
  });
  names.forEach(drawMap);
  goTo(0);
}

if (trace) look();
