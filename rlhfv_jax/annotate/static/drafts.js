// Drafts: in the browser at once, on the server's disk after each pause. Who
// saves names the version that they saw; an old one overwrites nothing.

import {$, attempt, call, next, shown, warn} from './page.js';

const PAUSE = 350; // ms without a change

export function say(what, trouble = false) {
  $('#saved').textContent = what;
  $('#saved').classList.toggle('trouble', trouble);
}

// `edit()` is what is on the screen, as `name` takes it; `stale(answer)` asks
// which of two texts goes on.
export function drafts({name, edit, stale}) {
  let version = shown.version, dirty = false, busy = false, gone = false;
  let waiting = null, pending = null, heard = [];
  const now = () => ({item: shown.item, version, ...edit()});
  const same = (a, b) => JSON.stringify({...a, seconds: 0, keys: 0, version: 0}) ===
    JSON.stringify({...b, seconds: 0, keys: 0, version: 0});

  function changed() {
    dirty = true;
    heard = [];
    if ($('#guards').firstChild) $('#guards').replaceChildren();
    say('…');
    clearTimeout(waiting);
    waiting = setTimeout(save, PAUSE);
    try {
      localStorage.setItem(shown.draft, JSON.stringify(now()));
    } catch { /* full or forbidden: the server has the draft */ }
  }

  // Whether all that is on the screen is kept now.
  async function save() {
    if (busy || gone || !(dirty || pending)) return false;
    busy = true;
    // One whose answer was lost is asked for again by the same name.
    pending ??= {sent: now(), save: attempt()};
    const {sent} = pending;
    const answer = await call(name, {...sent, save: pending.save}).catch(() => null);
    busy = false;
    if (!answer || answer.status >= 500) {
      say(answer?.error ?? 'not saved yet: the server does not answer', true);
      waiting = setTimeout(save, 1500);
      return false;
    }
    pending = null;
    dirty = answer.status < 400 && !same(now(), sent);
    if (answer.status === 409) old(answer);
    else if (answer.error) say(answer.error, true);
    if (answer.error) return false;
    version = answer.version;
    if (dirty) { waiting = setTimeout(save, 50); return false; }
    localStorage.removeItem(shown.draft);
    say('saved');
    return true;
  }

  function old(answer) {
    say('saved elsewhere', true);
    version = answer.version;
    stale(answer.body ?? {});
  }

  // A record, and on to the next; a guard's warning is heard once.
  async function submit(where, state) {
    clearTimeout(waiting);
    while (busy) await new Promise(done => setTimeout(done, 20));
    if ((pending || dirty) && !await save()) return null;
    if (document.querySelector('dialog[open]') || gone) return null;
    busy = true;
    const answer = await call(where, {...now(), state, heard, save: attempt()})
      .catch(() => ({error: 'the server does not answer: nothing is lost, submit again'}));
    busy = false;
    if (answer.guards) {
      heard = answer.guards.map(guard => guard.kind);
      warn(answer.guards);
    } else if (answer.status === 409) old(answer);
    else if (answer.error) say(answer.error, true);
    else {
      gone = true;
      localStorage.removeItem(shown.draft);
      next(answer);
    }
    return answer;
  }

  // What this browser has and the server has not: of a tab that died.
  function kept() {
    try {
      return JSON.parse(localStorage.getItem(shown.draft));
    } catch { return null; }
  }

  addEventListener('pagehide', () => {
    const last = pending ? {...pending.sent, save: pending.save} : {...now(), save: attempt()};
    if (!gone && (dirty || pending)) call(name, last, {keepalive: true}).catch(() => {});
  });
  return {changed, submit, kept};
}
