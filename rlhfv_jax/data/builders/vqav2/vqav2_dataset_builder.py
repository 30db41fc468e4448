"""VQA v2 in TFDS."""

import tensorflow_datasets as tfds

from rlhfv_jax.data.builders import features
from rlhfv_jax.data.formats import vqav2

SPLITS = ('train', 'val', 'test')


class Builder(tfds.core.GeneratorBasedBuilder):
  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'Questions with ten answers, pictures of COCO.'}
  BUILDER_CONFIGS = [
    tfds.core.BuilderConfig(
      name='answers', description='A question and its most frequent answer.'
    ),
    tfds.core.BuilderConfig(
      name='rounds', description='The yes/no questions of each picture.'
    ),
    tfds.core.BuilderConfig(
      name='questions', description='To be asked, with what ten people said.'
    ),
  ]
  MANUAL_DOWNLOAD_INSTRUCTIONS = """
  From https://visualqa.org/download.html, unpacked into one folder: the
  questions and annotations of the splits that are wanted, and the pictures
  (train2014/, val2014/, test2015/). Splits without files are left out.
  """

  def _info(self) -> tfds.core.DatasetInfo:
    return self.dataset_info_from_configs(
      features=features.features(),
      homepage='https://visualqa.org',
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    folder = dl_manager.manual_dir
    there = [name for name in SPLITS if vqav2.has(folder, name)]
    if self.builder_config.name != 'questions':
      there = [name for name in there if name != 'test']
    if not there:
      raise ValueError(f'{folder}: {self.MANUAL_DOWNLOAD_INSTRUCTIONS}')
    return {name: self._generate_examples(folder, name) for name in there}

  def _generate_examples(self, folder, split: str):
    task = self.builder_config.name
    for index, example in enumerate(vqav2.read(folder, split=split, task=task)):
      yield index, features.to_row(example)
