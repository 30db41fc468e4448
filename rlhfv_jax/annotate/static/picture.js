// The picture: fit, zoomed at the pointer or in the middle, moved about.

import {$} from './page.js';

const image = $('#picture'), frame = $('#frame');
let scale = 1, x = 0, y = 0; // x, y: where its middle is, in frames
let pointer = null, held = null;

function place() {
  const most = (scale - 1) / 2;
  [x, y] = [x, y].map(v => Math.max(-most, Math.min(most, v)));
  image.style.transform = `translate(${100 * x}%, ${100 * y}%) scale(${scale})`;
  $('#scale').textContent = scale === 1 ? 'fit' : `${Math.round(10 * scale) / 10}×`;
}

function to(wanted) {
  if (!image) return;
  const by = Math.max(1, Math.min(8, wanted)) / scale;
  const [px, py] = pointer ?? [0, 0]; // what is there stays there
  [x, y, scale] = [px - (px - x) * by, py - (py - y) * by, scale * by];
  place();
}

export const zoom = () => to(scale < 1.9 ? 2 : scale < 3.9 ? 4 : 1);
export const pan = (dx, dy) => { x += dx; y += dy; if (image) place(); };

const ARROWS = {ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]};
// Whether a key moved the picture: arrows on it, elsewhere with Alt.
export function moved(event) {
  const way = ARROWS[event.key];
  if (!way || !image || !(event.altKey || event.target === frame)) return false;
  pan(...way.map(step => .08 * step));
  event.preventDefault();
  return true;
}

function at(event) {
  const {left, top, width, height} = frame.getBoundingClientRect();
  return [(event.clientX - left) / width - .5, (event.clientY - top) / height - .5];
}

frame?.addEventListener('pointermove', event => {
  pointer = at(event);
  if (!held) return;
  pan(pointer[0] - held[0], pointer[1] - held[1]);
  held = pointer;
});
frame?.addEventListener('pointerdown', event => {
  held = at(event);
  frame.setPointerCapture(event.pointerId);
});
frame?.addEventListener('pointerup', () => { held = null; });
frame?.addEventListener('pointerleave', () => { pointer = null; });
frame?.addEventListener('dblclick', zoom);
frame?.addEventListener('wheel', event => {
  event.preventDefault();
  pointer = at(event);
  to(scale * (event.deltaY < 0 ? 1.25 : .8));
}, {passive: false});
