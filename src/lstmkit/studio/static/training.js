"use strict";
// Asks once a second how far the training is.

const section = document.getElementById("training");
const shown = (id) => document.getElementById(id);

function duration(seconds) {
  if (seconds <= 59) return `${Math.ceil(seconds)} s`;
  const minutes = Math.ceil(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function show(state) {
  const task = state.task;
  const bar = shown("bar");
  shown("stop").hidden = state.scoring;
  if (task.total) {
    shown("step").textContent = `${task.task[0].toUpperCase()}${task.task.slice(1)}: ${Math.round((100 * task.done) / task.total)} %`;
    bar.value = task.done / task.total;
    const left = task.seconds_left === null ? "" : `At most ${duration(task.seconds_left)} left.`;
    shown("left").textContent = state.quiet ? "Working: scores beside the baselines, or a long step." : left;
    shown("note").textContent = task.note;
  } else {
    shown("step").textContent = state.chart ? "Scoring the model and the baselines …" : "Starting, and reading the data …";
    bar.removeAttribute("value");
    shown("left").textContent = shown("note").textContent = "";
  }
  shown("messages").replaceChildren(
    ...state.messages.map((message) => {
      const line = document.createElement("p");
      line.textContent = message;
      return line;
    }),
  );
  if (state.chart) studio.draw(shown("loss"), state.chart);
}

async function watch() {
  try {
    const answer = await fetch(section.dataset.status);
    const state = await answer.json();
    if (state.status !== "training") {
      window.location.reload();
      return;
    }
    show(state);
  } catch {
    shown("step").textContent = "The studio does not answer. The training goes on; start the studio again to see it.";
  }
  window.setTimeout(watch, 1000);
}

watch();
