"""The playroom in TFDS: a small world of pictures with known truth."""

import tensorflow_datasets as tfds

from rlhfv_jax.data.builders import features
from rlhfv_jax.data.formats import playroom

SCENES = {'train': 4000, 'dev': 128, 'test': 512, 'unseen': 512}
TASKS = {
  'describe': 'A request to describe the picture, and a noisy caption.',
  'questions': 'Closed questions, truly answered.',
  'looks': 'What is at each place of the picture.',
  'pairs': 'A wrong caption, and the same corrected where it is wrong.',
}


class Builder(tfds.core.GeneratorBasedBuilder):
  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'The world of this release of rlhfv_jax.'}
  BUILDER_CONFIGS = [
    tfds.core.BuilderConfig(name=name, description=text)
    for name, text in TASKS.items()
  ]

  def _info(self) -> tfds.core.DatasetInfo:
    return self.dataset_info_from_configs(
      features=features.features(),
      homepage='https://arxiv.org/abs/2312.00849',
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    return {
      name: self._generate_examples(f'{name}/{self.builder_config.name}/{n}')
      for name, n in SCENES.items()
    }

  def _generate_examples(self, path: str):
    for index, example in enumerate(playroom.read(path)):
      yield index, features.to_row(example)
