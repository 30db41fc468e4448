// Labelling: words are selected, and it is said what is wrong with them.

import {$, buttons, everywhere, KEYS as ALL, make, shown, worked} from './page.js';
import {drafts} from './drafts.js';
import {moved, zoom} from './picture.js';

const answer = $('#answer'), count = shown.words.length - 1;
let marked = shown.marked; // [first word, last word, type], apart and in order
let at = 0, from = 0; // the selection, from where it began to where it is

const {changed: draft, submit, kept} = drafts({
  name: 'label', edit: () => ({marked, ...worked(), note: ''}),
  stale: () => mine() ? draft() : location.reload(),
});

function mine() {
  if (confirm('Saved elsewhere in the meantime, and both are kept. OK goes on with ' +
    'the marks of this page, Cancel with those that were saved there.')) return true;
  localStorage.removeItem(shown.draft);
  return false;
}

const words = shown.words.slice(0, count).map(([, word], i) =>
  make('span', {role: 'option', id: `w${i}`}, word));
const gaps = shown.words.map(([before]) => make('span', {}, before));
answer.append(...words.flatMap((node, i) => [gaps[i], node]), gaps[count]);

const ends = () => [Math.min(at, from), Math.max(at, from)];
const of = i => marked.find(([a, b]) => a <= i && i <= b);

function show() {
  const [first, last] = ends();
  words.forEach((node, i) => {
    const mark = of(i), selected = first <= i && i <= last;
    node.className = mark ? `in l-${mark[2]}` : '';
    gaps[i].className = mark && mark[0] < i ? node.className : '';
    node.classList.toggle('selected', selected);
    gaps[i].classList.toggle('selected', selected && first < i);
    node.setAttribute('aria-selected', selected);
    node.setAttribute('aria-label', mark ? `${node.textContent}, ${mark[2]}` : node.textContent);
    if (mark?.[1] === i) node.dataset.type = mark[2];
    else delete node.dataset.type;
  });
  answer.setAttribute('aria-activedescendant', `w${at}`);
  words[at]?.scrollIntoView({block: 'nearest'});
  const n = marked.length;
  $('#share').textContent = n ? `${n} segment${n > 1 ? 's' : ''}` : 'nothing yet';
  for (const button of document.querySelectorAll('[data-label]'))
    button.setAttribute('aria-pressed', of(at)?.[2] === button.dataset.label);
}

function go(to, extend) {
  at = Math.max(0, Math.min(count - 1, to));
  if (!extend) from = at;
  show();
}

// The word above or below: the nearest on the line there.
function line(step) {
  const here = words[at].getBoundingClientRect(), middle = (here.left + here.right) / 2;
  const away = i => {
    const box = words[i].getBoundingClientRect();
    return [Math.round(box.top - here.top) * step, Math.abs((box.left + box.right) / 2 - middle)];
  };
  let best = at, least = [Infinity, Infinity];
  for (let i = 0; i < count; i++) {
    const [rows, across] = away(i);
    if (rows > 4 && (rows < least[0] - 4 || (rows < least[0] + 4 && across < least[1])))
      [best, least] = [i, [rows, across]];
  }
  return best;
}

function beside(step) {
  const order = step > 0 ? marked : [...marked].reverse();
  const found = order.find(([a]) => step > 0 ? a > at : a < ends()[0]);
  if (found) { from = found[0]; go(found[1], true); }
}

function label(type) {
  const [first, last] = ends();
  marked = marked.filter(([a, b]) => b < first || last < a);
  if (type) marked.push([first, last, type]);
  marked.sort((a, b) => a[0] - b[0]);
  draft();
  from = at = last;
  show();
}

const DO = {
  ...everywhere, zoom,
  next: () => beside(1), previous: () => beside(-1),
  undo: () => { marked = []; draft(); show(); },
  erase: () => {
    const mark = of(at);
    if (mark) { [from, at] = mark; label(null); }
  },
  clean: () => submit('label', 'clean'), skip: () => submit('label', 'skipped'),
  flag: () => submit('label', 'flagged'), submit: () => submit('label', 'labelled'),
};
const KEYS = {
  ...ALL, j: 'next', k: 'previous', u: 'undo', 0: 'erase', Backspace: 'erase',
  Delete: 'erase', x: 'clean', s: 'skip', f: 'flag', z: 'zoom',
};
const MOVES = {
  ArrowLeft: () => at - 1, ArrowRight: () => at + 1, ArrowUp: () => line(-1),
  ArrowDown: () => line(1), Home: () => 0, End: () => count - 1,
};

document.addEventListener('keydown', event => {
  if (document.querySelector('dialog[open]')) return;
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    if (!event.repeat) DO.submit();
    return;
  }
  if (moved(event) || event.ctrlKey || event.metaKey || event.altKey) return;
  if (MOVES[event.key]) go(MOVES[event.key](), event.shiftKey);
  else if (shown.labels[event.key - 1]) label(shown.labels[event.key - 1]);
  else if (KEYS[event.key]) DO[KEYS[event.key]]();
  else return;
  event.preventDefault();
});

buttons(DO);
for (const button of document.querySelectorAll('[data-label]'))
  button.addEventListener('click', () => label(button.dataset.label));
const word = event => words.indexOf(event.target.closest('[role=option]'));
answer.addEventListener('pointerdown', event => {
  if (word(event) >= 0) go(word(event), event.shiftKey);
});
answer.addEventListener('pointermove', event => {
  if (event.buttons && word(event) >= 0) go(word(event), true);
});

const more = kept();
if (more && (more.version === shown.version || mine())) { marked = more.marked; draft(); }
show();
answer.focus({preventScroll: true});
document.body.dataset.ready = 'yes';
