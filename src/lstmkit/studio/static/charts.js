"use strict";
// Draws every chart of a page: <div class="plot"> with its JSON inside.

const PLOT_OPTIONS = {
  responsive: true,
  displaylogo: false,
  displayModeBar: false,
  scrollZoom: false,
  doubleClick: "reset",
};

const studio = {
  // Draw a chart, or draw it again with other values.
  draw(element, chart) {
    element.style.height = `${chart.layout.height}px`; // else a narrower window would make it flat
    const drawn = Plotly.react(element, chart.data, chart.layout, PLOT_OPTIONS);
    element.dataset.drawn = "yes"; // for tests
    return drawn;
  },
};

document.querySelectorAll(".plot > script[type='application/json']").forEach((script) => {
  const chart = JSON.parse(script.textContent);
  const element = script.parentElement;
  script.remove();
  studio.draw(element, chart);
});

document.querySelectorAll("form[data-confirm]").forEach((form) => {
  form.addEventListener("submit", (event) => {
    if (!window.confirm(form.dataset.confirm)) event.preventDefault();
  });
});

// The reader hears and sees the error first.
const problem = document.getElementById("problem");
if (problem) {
  problem.tabIndex = -1;
  problem.focus();
}
