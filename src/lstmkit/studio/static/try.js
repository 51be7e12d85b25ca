"use strict";
// Shows the inputs of the chosen source; records a clip as WAV; takes pen strokes from a canvas.

const form = document.getElementById("try");

function chooseSource() {
  const source = form.elements.source.value;
  form.querySelectorAll("[data-source]").forEach((part) => {
    part.hidden = part.dataset.source !== source;
  });
}
form.querySelectorAll("[name=source]").forEach((input) => input.addEventListener("change", chooseSource));
chooseSource();
form.addEventListener("submit", () => {
  document.getElementById("asking").hidden = false;
});

// ---- microphone --------------------------------------------------------------------------------

const record = document.getElementById("record");

// A WAV file of one channel with 16 bits.
function wavFile(blocks, rate) {
  const count = blocks.reduce((sum, block) => sum + block.length, 0);
  const view = new DataView(new ArrayBuffer(44 + 2 * count));
  const text = (place, letters) => [...letters].forEach((letter, k) => view.setUint8(place + k, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * count, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * count, true);
  let place = 44;
  for (const block of blocks) {
    for (const sample of block) {
      view.setInt16(place, Math.max(-1, Math.min(1, sample)) * 32767, true);
      place += 2;
    }
  }
  return new File([view], "recording.wav", { type: "audio/wav" });
}

if (record) {
  const status = document.getElementById("recorded");
  let stop = null;

  const start = async () => {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    const context = new AudioContext();
    await context.audioWorklet.addModule("/static/recorder.js");
    const node = new AudioWorkletNode(context, "recorder");
    const blocks = [];
    node.port.onmessage = (event) => blocks.push(event.data);
    context.createMediaStreamSource(stream).connect(node);
    return () => {
      stream.getTracks().forEach((track) => track.stop());
      context.close();
      const files = new DataTransfer();
      files.items.add(wavFile(blocks, context.sampleRate));
      document.getElementById("recording").files = files.files;
      const playback = document.getElementById("playback");
      playback.src = URL.createObjectURL(files.files[0]);
      playback.hidden = false;
      const samples = blocks.reduce((sum, block) => sum + block.length, 0);
      status.textContent = `Recorded ${(samples / context.sampleRate).toFixed(1)} s.`;
    };
  };

  record.addEventListener("click", async () => {
    if (stop) {
      stop();
      stop = null;
      record.textContent = "Record again";
      return;
    }
    try {
      stop = await start();
      record.textContent = "Stop";
      status.textContent = "Recording …";
    } catch (error) {
      status.textContent = `The microphone cannot be used (${error.name}). Allow it in the browser, or give a file.`;
    }
  });
}

// ---- canvas ------------------------------------------------------------------------------------

const canvas = document.getElementById("canvas");

if (canvas) {
  const pen = canvas.getContext("2d");
  pen.lineWidth = 3;
  pen.lineCap = pen.lineJoin = "round";
  let points = [];
  let drawing = false;

  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) * canvas.width) / box.width, ((event.clientY - box.top) * canvas.height) / box.height];
  };
  const keep = () => {
    document.getElementById("strokes").value = JSON.stringify(points);
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    drawing = true;
    const [x, y] = place(event);
    points.push([x, y, 0]);
    pen.beginPath();
    pen.moveTo(x, y);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!drawing) return;
    const [x, y] = place(event);
    points.push([x, y, 0]);
    pen.lineTo(x, y);
    pen.stroke();
  });
  const lift = () => {
    if (!drawing) return;
    drawing = false;
    points[points.length - 1][2] = 1;
    keep();
  };
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);
  document.getElementById("clear").addEventListener("click", () => {
    points = [];
    pen.clearRect(0, 0, canvas.width, canvas.height);
    keep();
  });
}
