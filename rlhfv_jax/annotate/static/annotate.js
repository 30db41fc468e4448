// The page of one item. The server says what an edit's segments are; here is
// what the hands do. Texts only ever become text nodes.

const $ = selector => document.querySelector(selector);
const shown = JSON.parse($('#shown')?.textContent ?? '{}');
const PAUSE = 350; // ms without a key until a draft is saved

async function call(name, told) {
  const response = await fetch(`/api/${name}`, {
    method: 'POST', body: JSON.stringify(told),
    headers: {'content-type': 'application/json'},
  });
  const answer = await response.json().catch(() => ({error: response.statusText}));
  return {status: response.status, ...answer};
}

const attempt = () => [...crypto.getRandomValues(new Uint8Array(16))]
  .map(n => n.toString(16).padStart(2, '0')).join('');

function make(tag, about = {}, ...inside) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(about))
    if (value !== null && value !== false) node.setAttribute(name, value);
  node.append(...inside);
  return node;
}

// Heard, not seen.
const told = words => make('span', {class: 'told'}, words);

// Who is annotating.

$('#who')?.addEventListener('submit', async event => {
  event.preventDefault();
  const answer = await call('person', {name: $('#name').value});
  if (answer.error) $('#trouble').textContent = answer.error;
  else location.assign('/');
});

// One of several people's records, taken as the final one.

for (const button of document.querySelectorAll('[data-take]'))
  button.addEventListener('click', async () => {
    const taken = JSON.parse(button.dataset.take);
    const answer = await call('submit', {
      ...taken, item: shown.item, version: shown.version, save: attempt(),
      heard: ['uncategorised', 'rewritten', 'marks only'], final: true,
    });
    if (answer.error) $('#trouble').textContent = answer.error;
    else location.assign('/progress');
  });

if ($('#text')) work();

function work() {
  const text = $('#text'), diff = $('#diff'), saved = $('#saved');
  const backup = `annotate:${shown.item}`;
  let {version, marks, seconds, keys} = shown;
  let view = {segments: [], same: [], guards: []};
  let heard = [], dirty = false, busy = false, gone = false, current = -1;
  let asked = 0, waiting = null, pending = null, held = null;
  let last = performance.now();

  const edit = () => ({
    item: shown.item, text: text.value, marks, version,
    seconds: Math.round(seconds * 10) / 10, keys, note: '',
  });

  // The live diff: one question at a time, and the newest next.

  async function ask() {
    if (asked++) return;
    for (let turn = 0; turn !== asked;) {
      turn = asked;
      const answer = await call('diff', {item: shown.item, text: text.value, marks})
        .catch(() => null);
      if (!answer || answer.error) say(answer?.error ?? 'the server does not answer', true);
      else if (turn === asked) show(answer);
    }
    asked = 0;
  }

  function show(answer) {
    const inside = diff.contains(document.activeElement);
    view = answer;
    current = Math.min(current, view.segments.length - 1);
    const nodes = [];
    view.same.forEach((same, i) => {
      nodes.push(document.createTextNode(same));
      if (view.segments[i]) nodes.push(chip(view.segments[i], i));
    });
    diff.replaceChildren(...nodes);
    diff.dataset.count = view.segments.length;
    const n = view.segments.length, open = view.segments.filter(s => !s.label).length;
    $('#share').textContent = n
      ? `${n} segment${n > 1 ? 's' : ''} · ${Math.round(100 * view.changed)} % of the words` +
        (open ? ` · ${open} without a category` : '')
      : 'nothing yet';
    mark();
    if (inside && current >= 0) focusOn(current);
    if (!$('#tokens').hidden) tokens();
    document.body.dataset.shown = text.value.length + ':' + performance.now();
  }

  function chip(segment, i) {
    const node = make('span', {
      class: `segment ${segment.label ? 'l-' + segment.label : ''}`, tabindex: 0,
      role: 'button', 'data-segment': i,
    }, told(`segment ${i + 1} of ${view.segments.length}, `));
    if (segment.old) node.append(told('deleted '), make('del', {}, segment.old), told(', '));
    if (segment.new) node.append(told('inserted '), make('ins', {}, segment.new), told(', '));
    node.append(make('small', {}, segment.label ?? '?'));
    if (!segment.label) node.append(told(' no category yet'));
    node.addEventListener('focus', () => { current = i; mark(); });
    node.addEventListener('click', () => node.focus());
    return node;
  }

  function mark() {
    diff.querySelectorAll('.segment').forEach((node, i) =>
      node.classList.toggle('current', i === current));
    const segment = view.segments[current];
    for (const button of document.querySelectorAll('[data-label]')) {
      button.disabled = !segment;
      button.setAttribute('aria-pressed', segment?.label === button.dataset.label);
    }
    $('[data-do=merge]').disabled = !view.segments[current + 1] || !segment;
    $('[data-do=split]').disabled = !segment || !(segment.splits || joined(segment));
  }

  function focusOn(i) {
    const nodes = diff.querySelectorAll('.segment');
    if (!nodes.length) return diff.focus();
    nodes[(i + nodes.length) % nodes.length].focus();
  }

  // Marks: kept by where the segment stands in the model's own text.

  function label(name) {
    const segment = view.segments[current];
    if (!segment) return;
    const [from, to] = segment.at;
    marks.labels = marks.labels.filter(([a, b]) => !(a === from && b === to));
    if (name) marks.labels.push([from, to, name]);
    segment.label = name;
    const next = view.segments.findIndex((s, i) => i > current && !s.label);
    const any = view.segments.findIndex(s => !s.label);
    changed();
    show(view);
    focusOn(!name ? current : next >= 0 ? next : any >= 0 ? any : current);
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

  // Drafts: on the disk after each pause, in the browser at once.

  function changed() {
    dirty = true;
    heard = [];
    $('#guards').replaceChildren();
    remember();
    ask();
    say('…');
    clearTimeout(waiting);
    waiting = setTimeout(save, PAUSE);
  }

  function remember() {
    try {
      localStorage.setItem(backup, JSON.stringify({version, text: text.value, marks}));
    } catch { /* a full or forbidden storage: the server has the draft */ }
  }

  async function save() {
    if (busy || gone) return;
    if (!dirty && !pending) return;
    busy = true;
    // A save whose answer was lost is asked for again by the same name.
    pending ??= {...edit(), save: attempt()};
    const sent = pending;
    const answer = await call('draft', sent).catch(() => null);
    busy = false;
    if (!answer || answer.status >= 500) {
      say(answer?.error ?? 'not saved yet: the server does not answer', true);
      waiting = setTimeout(save, 1500);
      return;
    }
    pending = null;
    if (answer.status === 409) return stale(answer);
    if (answer.error) { dirty = false; return say(answer.error, true); }
    version = answer.version;
    dirty = text.value !== sent.text || JSON.stringify(marks) !== JSON.stringify(sent.marks);
    if (dirty) waiting = setTimeout(save, 50);
    else {
      localStorage.removeItem(backup);
      say('saved');
    }
  }

  function say(what, trouble = false) {
    saved.textContent = what;
    saved.classList.toggle('trouble', trouble);
  }

  function stale(answer) {
    held = answer;
    $('#theirs').textContent = answer.body?.text ?? '(nothing)';
    $('#mine').textContent = text.value;
    say('saved elsewhere', true);
    $('#stale').showModal();
  }

  function resolve(mine) {
    version = held.version;
    if (!mine) {
      marks = held.body?.marks ?? {labels: [], joins: [], splits: []};
      rewrite(held.body?.text ?? shown.original);
    }
    $('#stale').close();
    changed();
  }

  // A record, and on to the next.

  async function submit(state) {
    clearTimeout(waiting);
    while (busy) await new Promise(done => setTimeout(done, 20));
    if (pending || dirty) await save();
    if (pending || dirty || $('#stale').open || gone) return;
    busy = true;
    const answer = await call('submit', {...edit(), state, heard, save: attempt()})
      .catch(() => ({error: 'the server does not answer: nothing is lost, submit again'}));
    busy = false;
    if (answer.guards) return warn(answer.guards, state);
    if (answer.status === 409) return stale(answer);
    if (answer.error) return say(answer.error, true);
    gone = true;
    localStorage.removeItem(backup);
    location.assign(answer.next ? `/item/${answer.next}` : '/progress');
  }

  function warn(guards) {
    heard = guards.map(guard => guard.kind);
    $('#guards').replaceChildren(...guards.map(guard =>
      make('p', {}, make('b', {}, guard.text), ' ', guard.way)));
    const open = view.segments.findIndex(s => !s.label);
    if (heard.includes('uncategorised') && open >= 0) focusOn(open);
  }

  // Writing into the text so that the browser's own undo still knows.

  function rewrite(words) {
    text.focus();
    text.select();
    if (!document.execCommand('insertText', false, words) || text.value !== words) text.value = words;
  }

  async function tokens() {
    const box = $('#tokens');
    const answer = await call('tokens', {item: shown.item, text: text.value, marks});
    box.replaceChildren(...(answer.error ? [answer.error] : answer.chosen.map(token =>
      make('span', {class: token.corrected ? 'token corrected' : 'token',
        title: token.corrected ? 'corrected: weighs more' : 'unchanged'}, token.text))));
  }

  // The picture.

  const image = $('#picture'), frame = $('#frame');
  let scale = 1, x = 0, y = 0;
  function place() {
    if (!image) return;
    const most = (scale - 1) / 2 * 100;
    [x, y] = [x, y].map(v => Math.max(-most, Math.min(most, v)));
    image.style.transform = `translate(${x}%, ${y}%) scale(${scale})`;
    $('#scale').textContent = scale === 1 ? 'fit' : `${scale}×`;
  }
  function zoom(step = null) {
    scale = step === null ? (scale === 1 ? 2 : scale === 2 ? 4 : 1)
      : Math.max(1, Math.min(8, scale * step));
    place();
  }
  const pan = (dx, dy) => { x += dx; y += dy; place(); };
  let from = null;
  frame?.addEventListener('pointerdown', event => {
    from = [event.clientX, event.clientY];
    frame.setPointerCapture(event.pointerId);
  });
  frame?.addEventListener('pointermove', event => {
    if (!from) return;
    const {width, height} = frame.getBoundingClientRect();
    pan(100 * (event.clientX - from[0]) / width, 100 * (event.clientY - from[1]) / height);
    from = [event.clientX, event.clientY];
  });
  frame?.addEventListener('pointerup', () => { from = null; });
  frame?.addEventListener('dblclick', () => zoom());
  frame?.addEventListener('wheel', event => {
    event.preventDefault();
    zoom(event.deltaY < 0 ? 1.25 : 0.8);
  }, {passive: false});

  // Keys.

  const DO = {
    help: () => $('#help').showModal(), zoom: () => zoom(), merge, split,
    undo: () => { marks = {labels: [], joins: [], splits: []}; rewrite(shown.original); changed(); },
    clean: () => submit('clean'), skip: () => submit('skipped'),
    flag: () => submit('flagged'), submit: () => submit('corrected'),
    mine: () => resolve(true), theirs: () => resolve(false),
    edit: () => text.focus(),
    next: () => focusOn(current + 1), previous: () => focusOn(current < 0 ? -1 : current - 1),
    diff: () => { diff.hidden = !diff.hidden; },
    tokens: () => {
      if (!shown.tokens) return say('no tokenizer was given', true);
      $('#tokens').hidden = !$('#tokens').hidden;
      if (!$('#tokens').hidden) tokens();
    },
    before: () => shown.before && location.assign(`/item/${shown.before}`),
    behind: () => shown.behind && location.assign(`/item/${shown.behind}`),
  };
  const KEYS = {
    e: 'edit', j: 'next', k: 'previous', m: 'merge', '/': 'split', u: 'undo',
    x: 'clean', s: 'skip', f: 'flag', d: 'diff', t: 'tokens', z: 'zoom',
    '?': 'help', '[': 'before', ']': 'behind',
  };

  document.addEventListener('keydown', event => {
    if (document.querySelector('dialog[open]')) return;
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      if (!event.repeat) submit('corrected');
      return;
    }
    if (event.target === text) {
      if (event.key !== 'Escape') return;
      const open = view.segments.findIndex(s => !s.label);
      text.blur();
      return focusOn(open >= 0 ? open : 0);
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrows = {ArrowLeft: [5, 0], ArrowRight: [-5, 0], ArrowUp: [0, 5], ArrowDown: [0, -5]};
    if (event.target === frame && arrows[event.key]) pan(...arrows[event.key]);
    else if (event.key === 'ArrowRight' || event.key === 'ArrowLeft')
      DO[event.key === 'ArrowRight' ? 'next' : 'previous']();
    else if (/^[1-6]$/.test(event.key)) label(shown.labels[event.key - 1]);
    else if (event.key === 'p') label('style');
    else if (event.key === '0') label(null);
    else if (KEYS[event.key]) DO[KEYS[event.key]]();
    else return;
    event.preventDefault();
  });

  for (const button of document.querySelectorAll('[data-do]'))
    button.addEventListener('click', () => DO[button.dataset.do]());
  for (const button of document.querySelectorAll('[data-label]'))
    button.addEventListener('click', () => label(button.dataset.label));
  text.addEventListener('input', changed);

  // Time counts while somebody is at it.
  for (const kind of ['keydown', 'pointerdown', 'pointermove', 'scroll'])
    addEventListener(kind, event => {
      const now = performance.now();
      seconds += Math.min(now - last, 30000) / 1000;
      last = now;
      if (kind === 'keydown' && !event.repeat) keys++;
    }, {passive: true, capture: true});

  addEventListener('pagehide', () => {
    if (!gone && dirty) navigator.sendBeacon && fetch('/api/draft', {
      method: 'POST', keepalive: true, headers: {'content-type': 'application/json'},
      body: JSON.stringify(pending ?? {...edit(), save: attempt()}),
    });
  });

  // What this browser has and the server has not: a tab that died in between.
  text.value = shown.text;
  try {
    const kept = JSON.parse(localStorage.getItem(backup));
    if (kept && kept.text !== shown.text) {
      if (kept.version === version) {
        text.value = kept.text;
        marks = kept.marks;
        changed();
      } else {
        text.value = kept.text;
        stale({version, body: {text: shown.text, marks: shown.marks}});
        marks = kept.marks;
      }
    }
  } catch { /* nothing was kept */ }
  ask();
  if (shown.doubts.length) suggest();
  if (!$('#stale').open) text.focus({preventScroll: true});
  text.setSelectionRange(0, 0);
  document.body.dataset.ready = 'yes';

  // Words that the model was not sure of, where somebody asked to see them.
  function suggest() {
    const list = make('p', {class: 'doubts'}, 'The model was unsure of: ',
      ...shown.doubts.flatMap(words => [make('mark', {}, words), ' ']));
    text.before(list);
  }
}
