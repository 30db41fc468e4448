"""RLHF-V-Dataset in TFDS."""

import tensorflow_datasets as tfds

from rlhfv_jax.data import sources
from rlhfv_jax.data.builders import features


class Builder(tfds.core.GeneratorBasedBuilder):
  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'All columns, and the pictures as they came.'}
  MANUAL_DOWNLOAD_INSTRUCTIONS = """
  The parquet of openbmb/RLHF-V-Dataset, of the version that is wanted:
  hf download openbmb/RLHF-V-Dataset --repo-type=dataset --local-dir=DIR
  """

  def _info(self) -> tfds.core.DatasetInfo:
    return self.dataset_info_from_configs(
      features=features.features(),
      homepage='https://huggingface.co/datasets/openbmb/RLHF-V-Dataset',
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    return {'train': self._generate_examples(dl_manager.manual_dir)}

  def _generate_examples(self, folder):
    for index, example in enumerate(sources.open(f'rlhfv:{folder}')):
      yield index, features.to_row(example)
