"""Preflight: what it counts is right, and what cannot be is said at once."""

import dataclasses
import functools
import importlib.util
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import run

from rlhfv_jax import meshes, models, options, sharding
from rlhfv_jax.batch import Batch, Bucket
from rlhfv_jax.preflight import apart, case, flops, hlo, steps
from rlhfv_jax.stages import problem

COMMAND = ['-m', 'rlhfv_jax', 'preflight']
CONFIG = '--config=configs/ddpo.py:llava15_7b'

PROGRAM = """\
HloModule step
%inner.1 (p: f32[8]) -> f32[8] {
  %fusion.1 = f32[8]{0} fusion(%p), calls=%f, backend_config={"estimated_cycles":"10"}
  %kernel = bf16[4] custom-call(%p), custom_call_target="tpu_custom_call", text="
a kernel's text {
may begin a line"
  ROOT %all-gather.1 = f32[4096,1024]{1,0} all-gather(%p), dimensions={0}
}
%test.1 (p: s32[]) -> pred[] {
  %constant.1 = s32[] constant(40)
  ROOT %compare.1 = pred[] compare(%p, %constant.1), direction=LT
}
%rare (p: f32[8]) -> f32[8] {
  ROOT %fusion.2 = f32[8]{0} fusion(%p), calls=%f, backend_config={"estimated_cycles":"1000"}
}
%never (p: f32[8]) -> f32[8] {
  ROOT %copy = f32[8] copy(%p)
}
ENTRY %main (p: f32[8]) -> f32[8] {
  %fusion.3 = f32[8]{0} fusion(%p), calls=%f, backend_config={"estimated_cycles":"7"}
  %fusion.4 = f32[8]{0} fusion(%p), calls=%f, backend_config={"estimated_cycles":"9223372036854775807"}
  %while.1 = f32[8] while(%p), condition=%test.1, body=%inner.1
  %conditional = f32[8] conditional(%i, %a, %b), branch_computations={%never, %rare}
}
"""  # noqa: E501


def test_cycles_count_loops_and_the_share_of_conditionals_that_is_taken():
  program = hlo.read(PROGRAM, taken=0.25)
  assert program.cycles == 7 + 40 * 10 + 0.25 * 1000
  assert program.collectives == {'all-gather': 40}
  assert program.bytes == {'all-gather': 40 * 4 * 4096 * 1024}
  assert program.gathered == {('f32', (4096, 1024)): 1}
  assert program.kernels == 1


@functools.cache
def real(name):
  """A real model as shapes, its attention by mask, nothing made again."""
  config = options.load(f'configs/ddpo.py:{name}')
  model = models.build(config.model)
  model = models.build(
    dataclasses.replace(model.config, remat='none', attention='xla')
  )
  mesh = sharding.make_mesh((1, 4, 2))
  s = problem.Setup(config, None, mesh, None, model, {}, {})
  return s, problem.abstract_params(s)


@pytest.mark.parametrize('name', ['llava15_13b', 'rlhfv_13b', 'llama31_8b'])
def test_counted_products_are_those_of_the_formula(name):
  s, params = real(name)
  c = s.model.config
  bucket, rows = Bucket(640, 192, 2), 2
  arrays = {
    'tokens': ((rows, bucket.length), jnp.int32),
    'lengths': ((rows, 3), jnp.int32),
    'roles': ((rows, 2, bucket.length), jnp.int8),
    'ref_logps': ((rows, bucket.length), jnp.float32),
  }
  if c.vision is not None:
    side = c.vision.image_size
    arrays['images'] = ((rows, side, side, 3), jnp.uint8)
  batch = Batch({k: jax.ShapeDtypeStruct(*v) for k, v in arrays.items()},
                bucket)  # fmt: skip
  loss = problem.preference(s)
  hyper = {'beta': 0.5, 'gamma': 5.0}
  total = lambda params, batch: loss(params, batch, hyper)['loss'].total
  parts = flops.forward(c, bucket, scored=bucket.length, dense=True)
  there = flops.count(total, params, batch)
  assert there == pytest.approx(rows * sum(parts.values()), rel=0.01)
  back = flops.count(jax.value_and_grad(total), params, batch)
  # The head makes its logits again.
  again = rows * parts['head']
  assert back - again == pytest.approx(rows * flops.step(parts), rel=0.01)


def test_who_is_seen_is_counted_as_the_mask_has_it():
  from rlhfv_jax import batch as rows

  for bucket in (Bucket(9, 4, 2), Bucket(12, 0, 1), Bucket(3, 5, 3)):
    full = [bucket.trunk] + [bucket.branch] * bucket.answers
    branch = rows.layout(jnp.asarray([full]), bucket)[2]
    assert int(rows.mask(branch).sum()) == flops.visible(bucket)


@pytest.mark.parametrize('plain', [False, True])
def test_pairs_that_share_nothing_lose_what_those_on_a_trunk_lose(plain):
  config = options.load('configs/ddpo.py:small,blind')
  model = models.build(config.model)
  s = problem.Setup(config, None, None, None, model, {}, {})
  rng, (trunk, rest, _) = np.random.default_rng(0), (bucket := Bucket(12, 5, 2))
  alone = np.r_[:trunk, trunk : trunk + rest], np.r_[:trunk, trunk + rest : 22]
  roles = rng.integers(0, 3, (3, 2, 22)).astype(np.int8)
  roles[:, 1, :trunk] = roles[:, 0, :trunk]
  roles[:, 0, trunk + rest :] = roles[:, 1, trunk : trunk + rest] = 0
  shared = {
    'tokens': rng.integers(1, 100, (3, 22)).astype(np.int32),
    'ref_logps': rng.normal(size=(3, 22)).astype(np.float32),
  }
  apart_ = {
    k: np.stack([v[:, a] for a in alone], 1).reshape(6, -1)
    for k, v in shared.items()
  }
  apart_['roles'] = np.stack(
    [roles[:, c, a] for c, a in enumerate(alone)], 1
  ).reshape(6, 1, -1)
  shared['roles'] = roles
  shared['lengths'] = np.tile(np.int32([trunk, rest, rest]), (3, 1))
  apart_['lengths'] = np.tile(np.int32([trunk + rest, 0]), (6, 1))
  params = models.init(model, jax.random.key(0))
  hyper = {'beta': 2.0, 'gamma': 5.0}
  ours = problem.preference(s)(params, Batch(shared, bucket), hyper)
  theirs = apart.loss(s, plain=plain)(
    params, Batch(apart_, Bucket(trunk + rest, 0, 1)), hyper
  )
  for name, mean in ours.items():
    np.testing.assert_allclose(theirs[name].total, mean.total, rtol=1e-4)
    assert theirs[name].count == mean.count == 3


def test_a_transfer_beside_products_is_counted_once():
  gather = '= bf16[4,8] all-gather(%p), channel_id=7, dimensions={0}'
  parts = {'start': 3, 'beside': 3, 'done': 3, 'another': 4}
  written = ''.join(
    f'%{name} (p: f32[8]) -> f32[8] {{\n'
    f'  ROOT %all-gather.{i} {gather.replace("=7", f"={channel}")}\n}}\n'
    for i, (name, channel) in enumerate(parts.items())
  )
  called = ''.join(f'  %f.{n} = f32[8] fusion(%p), calls=%{n}\n' for n in parts)
  text = f'HloModule m\n{written}ENTRY %main (p: f32[8]) -> f32[8] {{\n'
  program = hlo.read(f'{text}{called}}}\n')
  assert program.collectives == {'all-gather': 2}
  assert program.bytes == {'all-gather': 2 * 2 * 4 * 8}


@pytest.mark.parametrize(
  'wrong, says',
  [
    ({}, None),
    ({'shapes': {('f32', (5, 1024, 16000)): 1}}, 'logits of whole rows'),
    ({'shapes': {('bf16', (4, 1280, 16000)): 1}}, 'logits of whole rows'),
    ({'shapes': {('f32', (2, 32, 16000)): 1}}, None),  # a chunk of the head
    ({'shapes': {('f32', (5120, 16000)): 1}}, None),  # its kernel
    ({'gathered': {('f32', (5120, 5120)): 1}}, 'gathered in float32'),
    ({'gathered': {('bf16', (5120, 5120)): 1}}, None),
    ({'reused': 1.0}, '8.00 GiB of the state are not reused'),
  ],
)
def test_what_a_step_must_not_do_is_found(wrong, says):
  s, _ = real('llava15_13b')  # whose mesh has the vocabulary in two parts
  c = case.Case(s, meshes.find('v5e-8')[1], Bucket(640, 192, 2))
  built = steps.Built(True, 10.0, 9.0, 5.0, wrong.get('reused', 9.0))
  program = hlo.Program(
    1.0, {}, {}, 0, 0, wrong.get('shapes', {}), wrong.get('gathered', {})
  )
  found = case.problems(c, built, program, 20)
  assert len(found) == (says is not None)
  assert says is None or says in found[0]


def test_gpus_are_not_compiled_for_here():
  code, out = run('--topology=gpu-8', CONFIG, module=COMMAND)
  assert code == 1
  assert 'preflight compiles for TPUs alone' in out


TPU = pytest.mark.skipif(
  importlib.util.find_spec('libtpu') is None,
  reason="libtpu is not installed: pip install -e '.[tpu]'",
)


@TPU
@pytest.mark.parametrize(
  'args, says',
  [
    (['--config.mesh=1,-1,3'], r'config.mesh = \(1, 0, 3\)'),
    (['--config.train.batch=24'], 'a batch of 24 rows does not divide'),
    (['--bucket=500,64,2'], 'a picture alone takes 576 of the trunk'),
    (['--bucket=4000,128,2'], 'text.max_length is 4096'),
  ],
)
def test_what_cannot_be_is_said_before_anything_is_compiled(args, says):
  code, out = run('--topology=v5e-16', CONFIG, *args, module=COMMAND)
  assert code == 1
  assert re.search(says, out), out


SMALL = [
  f'--config.model.text.{k}={v}'
  for k, v in {'width': 1024, 'mlp': 2816, 'heads': 8, 'kv_heads': 8}.items()
]
INT8 = ['--config.lora.rank=64', '--config.lora.base=int8']
# What is asked, and the peak of a chip in GiB, cycles of a step and GB between
# chips, as libtpu 0.0.42.1 has them.
STORED = {
  'a language model': (
    ['llama32_1b', 'v5e-16', '256,128,2', '16'], 3.11, 1.316e8, 21.6
  ),
  'a trained BEiT-3 tower': (
    ['rlhfv_13b', 'v4-32', '160,128,2', '32', *SMALL], 1.49, 1.591e8, 7.75
  ),
  'a CLIP tower': (
    ['llava15_13b', 'v5p-16', '640,192,2', '32', *SMALL], 2.30, 2.160e8, 7.29
  ),
  'adapters on eight bits': (
    ['llava15_7b,lora', 'v5e-4', '640,192,2', '8', *SMALL, *INT8],
    0.92, 1.282e8, 2.78
  ),
}  # fmt: skip


@TPU
@pytest.mark.slow
@pytest.mark.parametrize('name', sorted(STORED))
def test_a_step_takes_what_it_took(name):
  (config, topology, bucket, rows, *more), peak, cycles, moved = STORED[name]
  code, out = run(
    f'--config=configs/ddpo.py:{config}', f'--topology={topology}',
    f'--bucket={bucket}', f'--config.train.batch={rows}', *more, '--json',
    module=COMMAND,
  )  # fmt: skip
  assert code == 0, out
  found = json.loads(out[out.index('{') :])['training']
  assert found['problems'] == []
  assert found['peak_gib'] <= 1.03 * peak
  assert found['cycles'] == pytest.approx(cycles, rel=0.03)
  assert sum(found['collective_gb'].values()) == pytest.approx(moved, rel=0.03)
  assert found['kernels'] >= 3
  assert found['asynchronous'] >= 3


@TPU
@pytest.mark.slow
def test_7b_with_adapters_on_eight_bits_fits_the_chip_that_colab_lends():
  code, out = run(
    f'{CONFIG},lora', '--config.lora.rank=64', '--config.lora.base=int8',
    '--topology=v5e:1x1', '--bucket=640,192,2', '--config.train.batch=1',
    '--json', module=COMMAND,
  )  # fmt: skip
  assert code == 0, out
  found = json.loads(out[out.index('{') :])['training']
  assert found['problems'] == []
  assert 8 < found['peak_gib'] < 15.75
