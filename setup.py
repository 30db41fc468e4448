"""pip install -e . installs what a run needs; extras add what tests need."""

from pathlib import Path

from setuptools import find_packages, setup

TORCH = ['torch>=2.4']  # reads .bin weights, and is the parity reference

setup(
  name='rlhfv_jax',
  version='0.1.0',
  description='Aligning multimodal LLMs with segment-level corrections, in JAX',
  long_description=Path(__file__).with_name('README.md').read_text('utf-8'),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  python_requires='>=3.11',
  packages=find_packages(include=['rlhfv_jax*', 'configs', 'launch*']),
  package_data={'rlhfv_jax': ['report.html']},
  install_requires=[
    'absl-py>=2.1',
    'flax>=0.12',
    'grain>=0.2.12',
    'importlib_resources>=6',  # tensorflow-datasets needs it and does not say
    'jax>=0.10',
    'matplotlib>=3.8',
    'ml_collections>=1.0',
    'numpy>=2.0',
    'optax>=0.2.5',
    'orbax-checkpoint>=0.12',
    'pillow>=11',
    'pyarrow>=17',
    'tensorboardX>=2.6',
    'tensorflow-datasets>=4.9.7',
    'tokenizers>=0.21',
    'tqdm>=4.66',
    'transformers>=5.0',
  ],
  extras_require={
    'test': ['hypothesis>=6.100', 'pytest>=8', 'ruff>=0.9', *TORCH],
    'convert': TORCH,
    'tpu': ['jax[tpu]>=0.10'],
    'cuda': ['jax[cuda13]>=0.10'],
  },
)
