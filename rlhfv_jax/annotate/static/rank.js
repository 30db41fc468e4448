// Two answers: which is more honest, and where they are alike, which helps more.

const $ = selector => document.querySelector(selector);
const shown = JSON.parse($('#shown').textContent);
const save = [...crypto.getRandomValues(new Uint8Array(16))]
  .map(n => n.toString(16).padStart(2, '0')).join('');
const began = performance.now();
const ASK = {
  honesty: 'Which one says less that the picture does not show?',
  helpfulness: 'Both alike. Which one helps more with what was asked?',
};
let tie = false, gone = false;

function ask() {
  $('#ask').textContent = tie ? ASK.helpfulness : ASK.honesty;
  $('[data-pick=tie]').disabled = tie;
}

async function send(told) {
  if (gone) return;
  gone = true;
  const response = await fetch('/api/rank', {
    method: 'POST', headers: {'content-type': 'application/json'},
    body: JSON.stringify({
      item: shown.item, version: shown.version, save,
      seconds: Math.round((performance.now() - began) / 100) / 10, ...told,
    }),
  }).catch(() => null);
  const answer = response ? await response.json() : {error: 'the server does not answer'};
  if (!answer.error) return location.assign(answer.next ? `/item/${answer.next}` : '/progress');
  gone = false;
  $('#trouble').textContent = answer.error;
}

function pick(which) {
  if (which === 'tie') {
    if (!tie) { tie = true; ask(); }
  } else send(tie ? {honesty: 'tie', helpfulness: which} : {honesty: which});
}

const DO = {
  back: () => { tie = false; ask(); },
  skip: () => send({state: 'skipped'}), flag: () => send({state: 'flagged'}),
};
const KEYS = {1: () => pick(0), 2: () => pick(1), 3: () => pick('tie'),
  u: DO.back, s: DO.skip, f: DO.flag};

document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (KEYS[event.key]) { event.preventDefault(); KEYS[event.key](); }
});
for (const button of document.querySelectorAll('[data-pick]'))
  button.addEventListener('click', () => pick(
    button.dataset.pick === 'tie' ? 'tie' : Number(button.dataset.pick)));
for (const button of document.querySelectorAll('[data-do]'))
  button.addEventListener('click', DO[button.dataset.do]);
ask();
