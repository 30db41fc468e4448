// What every page needs. Texts only ever become text nodes.

export const $ = selector => document.querySelector(selector);
export const shown = JSON.parse($('#shown')?.textContent ?? '{}');
const ROOT = new URL('..', import.meta.url); // behind whatever proxy

export async function call(name, told, more = {}) {
  const response = await fetch(new URL(`api/${name}`, ROOT), {
    method: 'POST', body: JSON.stringify(told),
    headers: {'content-type': 'application/json'}, ...more,
  });
  const answer = await response.json().catch(() => ({error: response.statusText}));
  return {status: response.status, ...answer};
}

export const open = path => location.assign(new URL(path, ROOT));
export const next = answer => open(answer.next ? `item/${answer.next}` : 'progress');

// A name for an attempt: one that is made again is not made twice.
export const attempt = () => [...crypto.getRandomValues(new Uint8Array(16))]
  .map(n => n.toString(16).padStart(2, '0')).join('');

export function make(tag, about = {}, ...inside) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(about))
    if (value !== null && value !== false) node.setAttribute(name, value);
  node.append(...inside);
  return node;
}

// Heard, not seen.
export const told = words => make('span', {class: 'told'}, words);

export function warn(guards) {
  $('#guards').replaceChildren(...guards.map(guard =>
    make('p', {}, make('b', {}, guard.text), ' ', guard.way)));
}

// Time counts while somebody is at it.
export const work = {seconds: shown.seconds ?? 0, keys: shown.keys ?? 0};
let last = performance.now();
for (const kind of ['keydown', 'pointerdown', 'pointermove', 'scroll'])
  addEventListener(kind, event => {
    const now = performance.now();
    work.seconds += Math.min(now - last, 30000) / 1000;
    last = now;
    if (kind === 'keydown' && !event.repeat) work.keys++;
  }, {passive: true, capture: true});
export const worked = () => ({
  seconds: Math.round(work.seconds * 10) / 10, keys: work.keys,
});

// What every item's page can do, by the names of its buttons.
export const everywhere = {
  help: () => $('#help').showModal(),
  before: () => shown.before && open(`item/${shown.before}`),
  behind: () => shown.behind && open(`item/${shown.behind}`),
};
export const KEYS = {'?': 'help', '[': 'before', ']': 'behind'};
export function buttons(deeds) {
  for (const button of document.querySelectorAll('[data-do]'))
    button.addEventListener('click', () => deeds[button.dataset.do]());
}
