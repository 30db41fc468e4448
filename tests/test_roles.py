"""Spans and roles hold on ten thousand random pairs, to the character."""

import re

import numpy as np
import pytest
from test_chat import TOKENIZERS
from vicunas import folder

from rlhfv_jax.data import chat, segments
from rlhfv_jax.data.encode import encode
from rlhfv_jax.data.example import RowError
from rlhfv_jax.data.rows import Example, assemble, lengths, pack, prompts

N = 10_000
WORDS = ['a', 'the', 'red', 'blue', 'cup', 'two', 'cups', 'left', '3', '12',
         'über', 'café', '猫', '🐈', '🐈‍⬛', 'e\u0301', "don't"]  # fmt: skip
GAPS = [' '] * 12 + ['', '  ', '\n', '. ', ', ', '\t', ' - ', '\u00a0']


def sentence(rng) -> list[str]:
  """Words and what stands between them, in turn."""
  size = rng.integers(1, 14)
  parts = [WORDS[i] for i in rng.integers(len(WORDS), size=size)]
  gaps = [GAPS[i] for i in rng.integers(len(GAPS), size=size)]
  return [part for pair in zip(parts, gaps, strict=True) for part in pair]


def edited(parts, rng) -> list[str]:
  """Words replaced, put in, or left out; now and then all of them."""
  if rng.random() < 0.1:
    return sentence(rng)
  parts = list(parts)
  for _ in range(rng.integers(1, 4)):
    at = int(rng.integers(len(parts) + 1))
    parts[at : at + int(rng.integers(0, 3))] = sentence(rng)[
      : rng.integers(0, 3)
    ]
  return parts


def drawn(rng, answer: str):
  """Spans as an annotator might draw them: anywhere, even around nothing."""
  ends = np.sort(rng.integers(len(answer) + 1, size=2 * rng.integers(0, 4)))
  pairs = ends.reshape(-1, 2).tolist()
  return tuple((start, end, 'object') for start, end in pairs)


@pytest.fixture(scope='module')
def pairs() -> list[Example]:
  rng = np.random.default_rng(0)
  found = []
  while len(found) < N:
    parts = sentence(rng)
    answers = (''.join(parts).strip(), ''.join(edited(parts, rng)).strip())
    if not all(answers) or answers[0] == answers[1]:
      continue
    spans = None
    if len(found) % 2:
      spans = tuple(drawn(rng, answer) for answer in answers)
    found.append(
      Example(str(len(found)), b'png', (('user', 'why?'),), answers, spans)
    )
  return found


def over(text, spans, instead) -> str:
  for (start, end), new in reversed(list(zip(spans, instead, strict=True))):
    text = text[:start] + new + text[end:]
  return text


def test_spans_are_the_difference_and_nothing_else(pairs):
  for pair in pairs:
    chosen, rejected = pair.answers
    new, old = segments.spans(chosen, rejected)
    said = [chosen[start:end] for start, end in new]
    assert over(rejected, old, said) == chosen
    assert segments.spans(chosen, chosen) == ([], [])
    # What is outside of them is the same on both sides.
    cut = [
      over(t, s, '\0' * len(s)) for t, s in ((chosen, new), (rejected, old))
    ]
    assert cut[0] == cut[1]


# ---- roles, by bytes: what each token spells, laid along the text


def alphabet() -> dict[str, int]:
  """GPT-2's letter for each byte."""
  plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
  rest = [byte for byte in range(256) if byte not in plain]
  return {chr(b): b for b in plain} | {
    chr(256 + i): b for i, b in enumerate(rest)
  }


GPT2 = alphabet()


def spelled(piece: str, special: bool, kind: str) -> bytes:
  if special:
    return piece.encode()
  if kind == 'bytes':
    return bytes(GPT2[letter] for letter in piece)
  if found := re.fullmatch('<0x(..)>', piece):
    return bytes.fromhex(found[1])
  return piece.replace('▁', ' ').encode()


def characters(said: list[bytes], text: str) -> list[set[int]]:
  """For each token, the characters of the text that its bytes are from."""
  owner = [i for i, letter in enumerate(text) for _ in letter.encode()]
  data, at, found = text.encode(), 0, []
  for word in said:
    assert data.startswith(word, at), (word, data[at : at + 20])
    found.append(set(owner[at : at + len(word)]))
    at += len(word)
  assert at == len(data)
  return found


CASES = [
  ('sentencepiece', 'vicuna_v1'),
  ('sentencepiece', 'muffin'),
  ('bytes', 'vicuna_v1'),
  ('bytes', 'llama3'),
]


@pytest.fixture(scope='module')
def tokenizers(tmp_path_factory):
  vicuna = chat.load(folder(tmp_path_factory.mktemp('roles') / 'v'))
  return {'sentencepiece': vicuna, 'bytes': TOKENIZERS['bytes']}


def rows_of(examples, tokenizer, template):
  return [
    encode(example, tokenizer, template, image_tokens=2) for example in examples
  ]


@pytest.mark.parametrize('case', range(len(CASES)))
def test_a_token_is_corrected_where_its_characters_meet_a_span(
  pairs, tokenizers, case
):
  """A quarter of the pairs in each of four families."""
  kind, name = CASES[case]
  template = chat.template(name)
  tokenizer = chat.fit(tokenizers[kind], template)
  stop = chat.stop_text(tokenizer, template)
  special = set(tokenizer.get_added_vocab().values())
  examples = pairs[case :: len(CASES)]
  before = template.answer.partition('{')[0]
  made = rows_of(examples, tokenizer, template)
  for example, one in zip(examples, made, strict=True):
    spans = example.spans or segments.spans(*example.answers)
    for c, answer in enumerate(example.answers):
      ids = one.answers[c].tolist()
      names = tokenizer.convert_ids_to_tokens(ids)
      said = [
        spelled(piece, id in special, kind)
        for piece, id in zip(names, ids, strict=True)
      ]
      inside = {
        len(before) + i
        for start, end, *_ in spans[c]
        for i in range(start, end)
      }
      owners = characters(said, f'{before}{answer}{stop}')
      wanted = [2 if owner & inside else 1 for owner in owners]
      prompt = len(one.prompt)
      assert one.roles[c][prompt:].tolist() == wanted
      assert not one.roles[c][:prompt].any()
  unchanged_by_buckets(made)


def unchanged_by_buckets(made):
  """Roles come back from any bucket and batch as they were encoded."""
  rows = pack(made, [str(i) for i in range(len(made))])
  rng = np.random.default_rng(len(made))
  sizes, longest = lengths(rows), prompts(rows).max()
  for batch in (1, 7, 64):
    trunk = int(rng.integers(longest, sizes[:, 0].max() + 9))
    over = np.maximum(sizes[:, 0] - trunk, 0) + sizes[:, 1:].max(1)
    branch = int(over.max() + rng.integers(9))
    order = rng.permutation(len(made))[: batch * 20].reshape(-1, batch)
    for index in order:
      found = assemble(rows, index, (trunk, branch, 2))
      for b, i in enumerate(index):
        shared, *rests = found['lengths'][b]
        for c, rest in enumerate(rests):
          at = trunk + c * branch
          along = found['roles'][b, c]
          said = np.concatenate([along[:shared], along[at : at + rest]])
          np.testing.assert_array_equal(said, made[i].roles[c])
          assert (along > 0).sum() == (said > 0).sum()


def test_insertions_and_deletions_can_go_without_weight(tokenizers):
  template = chat.template('vicuna_v1')
  tokenizer = chat.fit(tokenizers['bytes'], template)
  turns = (('user', 'what is there?'),)
  answers = ('a red cup and a ball', 'a cup and a box')

  def corrected(diff, spans=None):
    example = Example('1', None, turns, answers, spans)
    row = encode(example, tokenizer, template, image_tokens=0, diff=diff)
    words = [tokenizer.convert_ids_to_tokens(ids) for ids in row.answers]
    return [
      [w.lstrip('Ġ') for w, role in zip(*one, strict=True) if role == 2]
      for one in zip(words, (r[-len(w) :] for r, w in
                             zip(row.roles, words, strict=True)), strict=True)
    ]  # fmt: skip

  exact, replaced = corrected('exact'), corrected('replaced')
  assert ''.join(exact[0]) == 'redball' and ''.join(replaced[0]) == 'ball'
  assert exact[1] == replaced[1]
  with pytest.raises(RowError, match='do not pair up.*diff=.exact'):
    corrected('replaced', (((0, 1, 'other'),), ()))
