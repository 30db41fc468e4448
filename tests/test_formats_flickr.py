"""Flickr30k Entities: official files as captions with boxes, and as facts."""

import pytest
from PIL import Image

from rlhfv_jax.data import sources
from rlhfv_jax.data.example import RowError
from rlhfv_jax.data.formats import flickr30k_entities as flickr

SENTENCE = (
  '[/EN#1/people Two men] in [/EN#2/clothing a red hat] play , '
  '[/EN#9/scene outside] .'
)
XML = """<annotation><filename>77.jpg</filename>
<size><width>200</width><height>100</height><depth>3</depth></size>
<object><name>1</name><bndbox><xmin>0</xmin><ymin>0</ymin><xmax>100</xmax>
<ymax>50</ymax></bndbox></object>
<object><name>1</name><bndbox><xmin>100</xmin><ymin>50</ymin><xmax>200</xmax>
<ymax>100</ymax></bndbox></object>
<object><name>2</name><bndbox><xmin>20</xmin><ymin>10</ymin><xmax>40</xmax>
<ymax>20</ymax></bndbox></object>
<object><name>9</name><scene>1</scene><nobndbox>1</nobndbox></object>
</annotation>"""


@pytest.fixture
def entities(tmp_path):
  for folder, name, text in (
    ('Sentences', '77.txt', f'{SENTENCE}\nAnother one .\n'),
    ('Annotations', '77.xml', XML),
    ('.', 'train.txt', '77\n'),
  ):
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / name).write_text(text)
  Image.new('RGB', (200, 100)).save(tmp_path / '77.jpg')
  return tmp_path


def test_boxes_stand_behind_what_they_hold():
  size, boxes = flickr.read_boxes(XML, '77')
  assert flickr.spotting(SENTENCE, boxes, size=size, frame='picture') == (
    'Two men[0.000,0.000,0.500,0.500];[0.500,0.500,1.000,1.000] in a red hat'
    '[0.100,0.100,0.200,0.200] play , outside .'
  )
  # Padded to a square the picture lies between a quarter and three.
  assert flickr.spotting(SENTENCE, boxes, size=size, box='<{:.2f} {:.2f}>') == (
    'Two men<0.00 0.25>;<0.50 0.50> in a red hat<0.10 0.30> play , outside .'
  )


def test_a_picture_has_a_caption_with_boxes_and_five_facts(entities):
  (only,) = sources.open(f'flickr30k_entities:{entities}')
  assert only.image == (entities / '77.jpg').read_bytes()
  assert only.facts == (
    'Two men in a red hat play , outside .', 'Another one .',
  )  # fmt: skip
  (answer,) = only.answers
  assert answer == 'Another one .' or answer.startswith('Two men[0.000,0.250')
  assert only.turns[0][1] in flickr.PROMPTS


@pytest.mark.parametrize(
  'name, content, says',
  [
    ('Annotations/77.xml', XML[:90], 'malformed annotation.*77.xml'),
    ('Sentences/77.txt', '', 'no sentence.*picture 77'),
    ('Sentences/77.txt', None, 'unreadable annotation.*Sentences/77.txt'),
  ],
)
def test_bad_annotations_are_named(entities, name, content, says):
  path = entities / name
  path.unlink() if content is None else path.write_text(content)
  with pytest.raises(RowError, match=says):
    sources.open(f'flickr30k_entities:{entities}')[0]
