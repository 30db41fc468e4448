// What changed, as nodes: only those that an edit made different are new.

import {$, make, told} from './page.js';

const pane = $('#diff');
let signs = [], nodes = [];

export const chips = () => [...pane.querySelectorAll('.segment')];

export function draw(view) {
  const parts = [];
  view.same.forEach((same, i) => {
    for (const [text, doubted] of view.runs?.[i] ?? [[same, false]])
      if (text) parts.push([text, doubted]);
    if (view.segments[i]) parts.push(view.segments[i]);
  });
  const fresh = parts.map(part => JSON.stringify(part));
  let head = 0, tail = 0;
  const least = Math.min(signs.length, fresh.length);
  while (head < least && signs[head] === fresh[head]) head++;
  while (tail < least - head && signs.at(-1 - tail) === fresh.at(-1 - tail)) tail++;
  const made = parts.slice(head, parts.length - tail).map(node);
  const before = nodes[nodes.length - tail] ?? null;
  for (const gone of nodes.splice(head, nodes.length - tail - head, ...made)) gone.remove();
  for (const one of made) pane.insertBefore(one, tail ? before : null);
  signs = fresh;
}

function node(part) {
  if (!Array.isArray(part)) return chip(part);
  const [text, doubted] = part;
  return doubted ? make('mark', {class: 'doubt', title: 'the model was unsure of this'}, text)
    : document.createTextNode(text);
}

function chip({old, new: fresh, label}) {
  const made = make('span', {
    class: `segment ${label ? `l-${label}` : ''}`, tabindex: 0, role: 'button',
  });
  if (old) made.append(told('deleted '), make('del', {}, old), told(', '));
  if (fresh) made.append(told('inserted '), make('ins', {}, fresh), told(', '));
  made.append(make('small', {}, label ?? '?'));
  if (!label) made.append(told(' no category yet'));
  return made;
}
