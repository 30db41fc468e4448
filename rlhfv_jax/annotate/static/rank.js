// Ranking: which answer is more honest, and on a tie, which helps more.

import {$, attempt, buttons, call, everywhere, KEYS as ALL, next, shown, worked} from './page.js';
import {say} from './drafts.js';
import {moved, zoom} from './picture.js';

const save = attempt();
const ASK = [
  'Which one says less that the picture does not show?',
  'Both alike. Which one helps more with what was asked?',
];
let tie = false, gone = false;

function ask() {
  $('#ask').textContent = ASK[Number(tie)];
  $('[data-do=tie]').disabled = tie;
  $('[data-do=back]').disabled = !tie;
}

async function send(told) {
  if (gone) return;
  gone = true;
  say('…');
  const answer = await call('rank', {
    item: shown.item, version: shown.version, save, ...worked(), ...told,
  }).catch(() => ({error: 'the server does not answer: pick again'}));
  if (!answer.error) return next(answer);
  gone = false;
  say(answer.error, true);
}

const pick = which =>
  send(tie ? {honesty: 'tie', helpfulness: which} : {honesty: which});

const DO = {
  ...everywhere, zoom,
  first: () => pick(0), second: () => pick(1),
  tie: () => { tie = true; ask(); }, back: () => { tie = false; ask(); },
  skip: () => send({state: 'skipped'}), flag: () => send({state: 'flagged'}),
};
const KEYS = {
  ...ALL, 1: 'first', 2: 'second', 3: 'tie', u: 'back', s: 'skip', f: 'flag', z: 'zoom',
};

document.addEventListener('keydown', event => {
  if (document.querySelector('dialog[open]') || moved(event)) return;
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (!KEYS[event.key]) return;
  event.preventDefault();
  DO[KEYS[event.key]]();
});
buttons(DO);
ask();
document.body.dataset.ready = 'yes';
