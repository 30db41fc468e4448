// Correcting: the server says what an edit's segments are; here is what the
// hands do.

import {$, call, make, buttons, everywhere, KEYS as ALL, shown, worked} from './page.js';
import {chips, draw} from './diff.js';
import {drafts, say} from './drafts.js';
import {moved, zoom} from './picture.js';

const text = $('#text'), diff = $('#diff');
const none = () => ({labels: [], joins: [], splits: []});
let marks = shown.marks, view = {segments: [], same: []};
let current = -1, asked = 0, theirs = null;

const {changed: draft, submit, kept} = drafts({
  name: 'draft', stale,
  edit: () => ({text: text.value, marks, ...worked(), note: ''}),
});

function changed() {
  ask();
  draft();
}

// The live diff: one question at a time, and the newest next.

async function ask() {
  if (asked++) return;
  for (let turn = 0; turn !== asked;) {
    turn = asked;
    const answer = await call('diff', {
      item: shown.item, text: text.value, marks, suggested: shown.suggested,
    }).catch(() => null);
    if (!answer || answer.error) say(answer?.error ?? 'the server does not answer', true);
    else if (turn === asked) show(answer);
  }
  asked = 0;
}

function show(answer) {
  const inside = diff.contains(document.activeElement);
  view = answer;
  current = Math.min(current, view.segments.length - 1);
  draw(view);
  const n = view.segments.length, left = view.segments.filter(s => !s.label).length;
  $('#share').textContent = n
    ? `${n} segment${n > 1 ? 's' : ''} · ${Math.round(100 * view.changed)} % of the words` +
      (left ? ` · ${left} without a category` : '')
    : 'nothing yet';
  mark();
  if (inside && current >= 0) focusOn(current);
  if (!$('#tokens').hidden) tokens();
}

function mark() {
  chips().forEach((node, i) => node.classList.toggle('current', i === current));
  const segment = view.segments[current];
  for (const button of document.querySelectorAll('[data-label]')) {
    button.disabled = !segment;
    button.setAttribute('aria-pressed', segment?.label === button.dataset.label);
  }
  $('[data-do=merge]').disabled = !segment || !view.segments[current + 1];
  $('[data-do=split]').disabled = !segment || !(segment.splits || joined(segment));
}

function focusOn(i) {
  const nodes = chips();
  if (!nodes.length) return diff.focus();
  nodes[(i + nodes.length) % nodes.length].focus();
}

const unnamed = (after = -1) => view.segments.findIndex((s, i) => i > after && !s.label);

// Marks: kept by where the segment stands in the model's own text.

function label(name) {
  const segment = view.segments[current];
  if (!segment) return;
  const [from, to] = segment.at;
  // Without a name, it has none of what it was a part of either.
  const old = ([a, b]) => a === from && b === to || !name && (from === to
    ? a === b && Math.abs(a - from) <= 1 : Math.max(a, from) < Math.min(b, to));
  marks.labels = marks.labels.filter(mark => !old(mark));
  if (name) marks.labels.push([from, to, name]);
  segment.label = name;
  const [behind, any] = [unnamed(current), unnamed()];
  changed();
  show(view);
  focusOn(!name ? current : behind >= 0 ? behind : any >= 0 ? any : current);
}

const joined = segment => marks.joins.find(([a, b]) =>
  a <= segment.at[0] && segment.at[1] <= b);

function merge() {
  const one = view.segments[current], other = view.segments[current + 1];
  if (!one || !other) return;
  marks.joins.push([one.at[0], other.at[1]]);
  if (one.label) marks.labels.push([one.at[0], other.at[1], one.label]);
  changed();
}

function split() {
  const segment = view.segments[current];
  if (!segment) return;
  const join = joined(segment);
  if (join) marks.joins = marks.joins.filter(pair => pair !== join);
  else if (segment.splits) marks.splits.push([...segment.at]);
  changed();
}

// Two texts: the one that is kept there, and the one on this page.

function stale(body) {
  theirs = body;
  $('#theirs').textContent = body.text ?? '(nothing)';
  $('#mine').textContent = text.value;
  $('#stale').showModal();
}

function resolve(mine) {
  if (!mine) {
    marks = theirs.marks ?? none();
    rewrite(theirs.text ?? shown.original);
  }
  $('#stale').close();
  changed();
}

// Written so that the browser's own undo still knows.
function rewrite(words) {
  text.focus();
  text.select();
  if (!document.execCommand('insertText', false, words) || text.value !== words) text.value = words;
}

async function tokens() {
  const answer = await call('tokens', {item: shown.item, text: text.value, marks});
  const line = (whose, found) => make('p', {}, make('small', {}, whose), ' ',
    ...found.flatMap(({before, text, corrected}) => [before, make('span', {
      class: corrected ? 'token corrected' : 'token',
      title: corrected ? 'corrected: weighs more' : 'unchanged',
    }, text)]));
  $('#tokens').replaceChildren(...(answer.error ? [answer.error]
    : [line('yours', answer.chosen), line('the model’s', answer.rejected)]));
}

async function hand(state) {
  const answer = await submit('submit', state);
  const guarded = answer?.guards?.some(guard => guard.kind === 'uncategorised');
  if (guarded && unnamed() >= 0) focusOn(unnamed());
}

const DO = {
  ...everywhere, zoom, merge, split,
  undo: () => { marks = none(); rewrite(shown.original); changed(); },
  clean: () => hand('clean'), skip: () => hand('skipped'),
  flag: () => hand('flagged'), submit: () => hand('corrected'),
  mine: () => resolve(true), theirs: () => resolve(false),
  edit: () => text.focus(),
  next: () => focusOn(current + 1), previous: () => focusOn(current < 0 ? -1 : current - 1),
  diff: () => { diff.hidden = !diff.hidden; },
  tokens: () => {
    if (!shown.tokens) return say('no tokenizer was given', true);
    $('#tokens').hidden = !$('#tokens').hidden;
    if (!$('#tokens').hidden) tokens();
  },
};
const KEYS = {
  ...ALL, e: 'edit', j: 'next', k: 'previous', m: 'merge', '/': 'split',
  u: 'undo', x: 'clean', s: 'skip', f: 'flag', d: 'diff', t: 'tokens', z: 'zoom',
  ArrowRight: 'next', ArrowLeft: 'previous',
};

document.addEventListener('keydown', event => {
  if (document.querySelector('dialog[open]')) return;
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    if (!event.repeat) hand('corrected');
    return;
  }
  if (event.target === text) {
    if (event.key !== 'Escape') return;
    text.blur();
    return focusOn(Math.max(unnamed(), 0));
  }
  if (moved(event) || event.ctrlKey || event.metaKey || event.altKey) return;
  if (/^[1-6]$/.test(event.key)) label(shown.labels[event.key - 1]);
  else if (event.key === 'p') label('style');
  else if (event.key === '0') label(null);
  else if (KEYS[event.key]) DO[KEYS[event.key]]();
  else return;
  event.preventDefault();
});

buttons(DO);
for (const button of document.querySelectorAll('[data-label]'))
  button.addEventListener('click', () => label(button.dataset.label));
diff.addEventListener('focusin', event => {
  const i = chips().indexOf(event.target);
  if (i >= 0) { current = i; mark(); }
});
diff.addEventListener('click', event => event.target.closest('.segment')?.focus());
text.addEventListener('input', changed);

// What is there to begin with, and what a tab that died had more.

text.value = shown.text;
const more = kept();
if (more && more.text !== shown.text) {
  text.value = more.text;
  marks = more.marks;
  if (more.version === shown.version) changed();
  else stale({text: shown.text, marks: shown.marks});
}
ask();
if (!$('#stale').open) text.focus({preventScroll: true});
text.setSelectionRange(0, 0);
document.body.dataset.ready = 'yes';
