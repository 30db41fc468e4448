// Who is annotating, and whose record is the final one.

import {$, attempt, call, open, shown} from './page.js';

$('#who')?.addEventListener('submit', async event => {
  event.preventDefault();
  const answer = await call('person', {name: $('#name').value});
  if (answer.error) $('#trouble').textContent = answer.error;
  else open('');
});

const takes = [...document.querySelectorAll('[data-take]')];
async function take(button) {
  const answer = await call(shown.mode === 'label' ? 'label' : 'submit', {
    ...JSON.parse(button.dataset.take), item: shown.item, final: true,
    version: shown.version, save: attempt(),
    heard: ['uncategorised', 'rewritten', 'marks only', 'edited', 'unmarked'],
  });
  if (answer.error) $('#trouble').textContent = answer.error;
  else open('progress');
}
for (const button of takes) button.addEventListener('click', () => take(button));
if (takes.length) document.addEventListener('keydown', event => {
  const button = takes[event.key - 1];
  if (button && !event.ctrlKey && !event.metaKey && !event.altKey) take(button);
});
