"""A data set for the doctor, and every trouble that may be planted in it."""

import io
import json
import random
from dataclasses import replace

from PIL import Image

from rlhfv_jax import feedback
from rlhfv_jax.data import chat
from rlhfv_jax.data.example import Example, RowError
from rlhfv_jax.playroom import captions, dataset, language
from rlhfv_jax.playroom.scene import World, rng_of

WORLD = World()
TOKENIZER = chat.word_tokenizer([*language.vocabulary(), 'naked'])
TEMPLATE = chat.template('playroom')
IMAGE_TOKENS, BUCKETS = 9, [(48, 48, 2), (128, 64, 2)]
TOKENS = {
  'tokenizer': TOKENIZER,
  'template': TEMPLATE,
  'image_tokens': IMAGE_TOKENS,
  'buckets': BUCKETS,
}
HOSTILE = '</p><script>alert("$x")</script><img src=x onerror=alert(1)>'
CLEAN = 40


def pairs(n: int) -> list[Example]:
  """Corrections of captions that say what usually is there; no rewrites."""
  found = []
  for scene in dataset.scenes(WORLD, 'train', 4 * n):
    said = captions.noisy_caption(scene, rng_of(scene, 9), WORLD)
    asked = feedback.question(scene, language.DESCRIBE[len(found) % 5])
    pair = feedback.correction(asked, scene, said)
    if pair and len(pair.answers[0]) > 0.6 * len(said):
      origin = {'origin': 'playroom', 'model': 'base', 'annotator': 'ada'}
      found.append(replace(pair, image_path=f'rooms/{pair.id}.png', **origin))
  assert len(found) >= n
  return found[:n]


def encoded(picture: Image.Image, kind: str = 'PNG', **options) -> bytes:
  out = io.BytesIO()
  picture.convert('RGB').save(out, kind, **options)
  return out.getvalue()


def decoded(example: Example) -> Image.Image:
  return Image.open(io.BytesIO(example.image))


class Broken:
  """A source some of whose rows cannot be read, as a file's reader has it."""

  def __init__(self, rows):
    self.rows, self.reads = rows, []

  def __len__(self):
    return len(self.rows)

  def __getitem__(self, index):
    self.reads.append(index)
    row = self.rows[index]
    if isinstance(row, Exception):
      raise row
    return row


def with_answers(pair, chosen, rejected, spans=None):
  return replace(pair, answers=(chosen, rejected), spans=spans)


def _both(pair, old, new):
  return with_answers(
    pair, *(answer.replace(old, new, 1) for answer in pair.answers)
  )


def with_question(pair, question):
  return replace(pair, turns=(('user', question),))


def _jpeg(pair):
  return replace(pair, image=encoded(decoded(pair), 'JPEG', quality=80))


# ---- what is planted: rows, and the kind of problem that each has


def _unreadable(take):
  yield ValueError('x.parquet, group 3: damaged'), 'unreadable row'
  yield FileNotFoundError('x.jpg'), 'unreadable row'
  yield RowError('wrong type', 'x.json, row 7: a list'), 'wrong type'
  yield RowError(HOSTILE, HOSTILE), HOSTILE


def _pictures(take):
  yield replace(take(), image=b'no picture at all'), 'undecodable picture'
  cut = take()
  half = cut.image[: len(cut.image) // 2]
  yield replace(cut, image=half), 'undecodable picture'
  out = io.BytesIO()
  Image.new('1', (10_000, 10_000)).save(out, 'PNG')
  yield replace(take(), image=out.getvalue()), 'picture too large'
  tiny = encoded(Image.new('L', (1, 1)))
  yield replace(take(), image=tiny), 'tiny picture'
  yield replace(take(), image=None), 'no picture'


def _texts(take):
  one = take()
  yield (
    replace(one, turns=(*one.turns, ('assistant', 'yes'))),
    ('turns out of order'),
  )
  yield (
    with_question(take(), '<image> <image> what can you see?'),
    'image placeholder',
  )
  yield _both(take(), 'there', '<image> there'), 'image placeholder'
  yield _both(take(), 'there', '<end> there'), 'special token in the text'
  yield _both(take(), 'there', '\ud83d there'), 'half a character'
  yield _both(take(), 'there', 'yonder'), 'unknown word'
  yield with_question(take(), ' '), 'empty question'
  yield with_question(take(), 'USER: what can you see?'), 'markup in the text'
  yield with_question(take(), 'what can you see\ufffd?'), 'broken characters'


def _answers(take):
  yield replace(take(), answers=(), spans=None), 'no answer'
  one = take()
  yield replace(one, answers=one.answers[:1], spans=None), 'answers a row'
  said = take()
  yield with_answers(said, said.answers[0], ' '), 'empty answer'
  same = take()
  yield with_answers(same, *same.answers[:1] * 2), 'equal answers'
  marks = take()
  other = marks.answers[0].replace('.', '?')
  yield with_answers(marks, marks.answers[0], other), 'difference of no word'
  new = take()
  yield (
    with_answers(new, new.answers[0], 'what is at the middle right? no.'),
    'rewrite',
  )


def _spans(take):
  one = take()
  yield replace(one, spans=one.spans[:1]), 'spans'
  outside = ((0, 9999, 'object'),), ()
  yield replace(take(), spans=outside), 'span outside its answer'
  over = ((0, 5, 'object'), (3, 8, 'number')), ()
  yield replace(take(), spans=over), 'overlapping spans'
  yield replace(take(), spans=((), ())), 'nothing marked'
  elsewhere = ((0, 2, 'object'),), ((0, 2, 'object'),)
  yield replace(take(), spans=elsewhere), 'difference outside the spans'
  named = take()
  spans = tuple(tuple((*s[:2], HOSTILE) for s in its) for its in named.spans)
  names = dict.fromkeys(('id', 'image_path', 'origin', 'annotator'), HOSTILE)
  yield (
    with_question(replace(named, spans=spans, **names), HOSTILE),
    'unknown category',
  )


def _long(take):
  asked, said = take(), take()
  yield (
    with_question(asked, ' '.join(said.answers * 8)),
    ('prompt longer than every bucket'),
  )
  yield (
    with_answers(said, *(' '.join([text] * 12) for text in said.answers)),
    ('answers longer than every bucket'),
  )


def _twins(take):
  yield replace(take(), id='twice'), None
  yield replace(take(), id='twice'), 'duplicate id'
  one = take()
  yield one, None
  yield replace(one, id='again'), 'duplicate rows'
  back = take()
  yield back, None
  chosen, rejected = back.answers
  yield (
    replace(with_answers(back, rejected, chosen), id='back'),
    'contradiction',
  )
  alike_ = take()
  text = ' '.join(take().answers[0] for _ in range(3))
  yield with_answers(alike_, f'{text} yes.', f'{text} two.'), None
  near = with_answers(alike_, f'{text} yes?', f'{text} one.')
  yield replace(near, id='near'), 'near-duplicate rows'
  yield with_answers(take(), f'{text} yes.', f'{text} no.'), 'alike answers'
  shown, told = take(), take()
  yield shown, None
  jpeg = replace(told, image=_jpeg(shown).image)
  yield jpeg, 'alike pictures'


def _held_out(take):
  number = replace(take(), image_path='coco/train2017/000000000042.jpg')
  yield number, 'evaluation picture'
  yield replace(take(), image_path='AMBER_7.jpg'), 'evaluation picture'
  yield take(), 'evaluation picture'  # its picture is held out
  yield _jpeg(take()), 'evaluation picture'  # so is one that looks the same
  val = replace(take(), image_path='COCO_val2014_000000099999.jpg')
  yield val, 'perhaps an evaluation picture'


PLANTS = (
  _unreadable, _pictures, _texts, _answers, _spans, _long, _twins, _held_out,
)  # fmt: skip


def dirtied(clean):
  """Rows of which some are planted, and the kind of each: {row: kind}."""
  fresh = iter(clean[CLEAN:])
  planted = [p for plant in PLANTS for p in plant(lambda: next(fresh))]
  places = sorted(
    random.Random(0).sample(range(CLEAN + len(planted)), len(planted))
  )
  rows, kinds = list(clean[:CLEAN]), {}
  for place, (row, kind) in zip(places, planted, strict=True):
    rows.insert(place, row)
    if kind:
      kinds[place] = kind
  return rows, kinds


def benchmark_files(dirty, folder):
  """Benchmark files in the forms that they are published in."""
  rows, kinds = dirty
  coco = {'images': [{'file_name': 'COCO_val2014_000000000042.jpg'}]}
  (folder / 'instances.json').write_text(json.dumps(coco))
  (folder / 'amber.txt').write_text('AMBER_6.jpg\nAMBER_7.jpg\n')
  pictures = folder / 'pictures'
  pictures.mkdir()
  kept = [rows[i] for i, kind in kinds.items() if kind == 'evaluation picture']
  (pictures / 'a.png').write_bytes(kept[2].image)
  (pictures / 'b.png').write_bytes(encoded(decoded(kept[3])))
  return [folder / 'instances.json', folder / 'amber.txt', pictures]
