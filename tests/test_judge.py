"""A judge that is slow, broken, rude or gone: counted, kept, asked again."""

import json
import time

import pytest
from judges import REPLY, serving

from rlhfv_jax import files, judge
from rlhfv_jax.benchmarks import mmhal
from rlhfv_jax.benchmarks.judging import request
from rlhfv_jax.judge import Judge, batch, cost
from rlhfv_jax.judge.cache import Cache, key


def asks(*deeds):
  """A request for each, which says what the server does to it."""
  return [
    request(f'q{i}', f'question {i}\n{deed}', temperature=0, max_tokens=64)
    for i, deed in enumerate(deeds)
  ]


@pytest.fixture
def server():
  with serving() as made:
    yield made


@pytest.fixture
def make(server, tmp_path):
  def made(**settings):
    given = {'url': server.url, 'retries': 3, 'backoff': 0.01, 'timeout': 5.0}
    return Judge('gpt-4', tmp_path / 'cache', **given | settings)

  return made


def test_replies_come_whatever_happens_before(server, make):
  deeds = ['ok', '429 ok', '500 500 ok', 'cut ok', 'nonsense ok', 'parts',
           'choiceless ok', 'slow', 'drip ok', 'zipped ok', 'deep ok',
           'pieces']  # fmt: skip
  said = judge.ask(asks(*deeds), make(timeout=0.6))
  assert set(said.replies) == {f'q{i}' for i in range(len(deeds))}
  assert {mmhal.rating(text) for text in said.replies.values()} == {4}
  assert said.trouble == {} and said.other == []
  assert said.served == {'gpt-4': len(deeds)}
  tries = {text.split('\n')[1]: n for text, n in server.tries.items()}
  assert tries == {deed: len(deed.split()) for deed in deeds}


def test_what_is_sent_is_the_request_alone(server, make, monkeypatch):
  monkeypatch.setenv('JUDGE_KEY', 'secret')
  given = request('a', 'hello', system='be fair', temperature=0.2, max_tokens=9)
  options = {'max_tokens': None, 'max_completion_tokens': 9}
  judge.ask([given], make(key_env='JUDGE_KEY', options=options))
  assert server.bodies == [
    {
      'model': 'gpt-4',
      'messages': [
        {'role': 'system', 'content': 'be fair'},
        {'role': 'user', 'content': 'hello'},
      ],
      'temperature': 0.2,
      'max_completion_tokens': 9,
    }
  ]
  assert server.keys == ['Bearer secret']
  kept = ''.join(p.read_text() for p in make().cache.glob('*'))
  assert 'secret' not in kept and REPLY in kept


def test_replies_that_cannot_be_used_are_named_and_never_a_zero(make):
  deeds = ['ok', 'refuse', 'filter', 'half', 'empty', 'other', 'number']
  said = judge.ask(asks(*deeds), make())
  assert set(said.replies) == {'q0', 'q5'}
  assert said.trouble['q1'] == 'the judge refused: No way'
  assert said.trouble['q2'] == 'the judge refused: content_filter'
  assert said.trouble['q3'].startswith('the reply ends in the middle')
  assert said.trouble['q4'] == 'the reply is empty'
  assert said.other == ['q5']
  assert said.served == {'gpt-4': 6, 'gpt-3.5-turbo': 1}
  told = '\n'.join(said.warnings('gpt-4'))
  assert '2 of 7 replies are left out, the judge refused: q1, q2' in told
  assert '2 of 7 replies are left out, the reply is empty: q4, q6' in told
  assert '1 of 7 replies are by another judge than gpt-4' in told


def test_a_dated_version_of_the_model_is_the_model(tmp_path):
  for asked, served, same in (
    ('gpt-4', 'gpt-4-0613', True),
    ('openai/gpt-4o', 'gpt-4o-2024-08-06', True),
    ('gpt-4-0314', 'gpt-4-0613', False),
  ):
    with serving(model=served) as server:
      said = judge.ask(asks('ok'), Judge(asked, tmp_path / served, server.url))
    assert (said.other == []) is same
    assert said.served == {served: 1}


def test_a_second_time_nobody_is_asked(server, make):
  wanted = asks('ok', 'refuse', '500 ok')
  first = judge.ask(wanted, make())
  count = len(server.bodies)
  assert judge.ask(wanted, make()) == first
  assert judge.ask(wanted, make(url='')) == first
  assert len(server.bodies) == count
  # Another time, another temperature, another text: another request.
  judge.ask(wanted[:1], make(), run=1)
  judge.ask(wanted[:1], make(options={'temperature': 1}))
  judge.ask(asks('429 ok'), make())
  assert len(server.bodies) == count + 1 + 1 + 2


def test_without_a_server_what_lacks_is_told(make):
  with pytest.raises(ValueError, match='0 of 2 replies of gpt-4'):
    judge.ask(asks('ok', 'ok'), make(url=''))


def test_what_was_never_answered_is_asked_the_next_time(server, make):
  wanted = asks('ok', '500 500 500 500 ok', 'ok')
  with pytest.raises(ValueError, match='1 of 3 requests got no.*q1.*oops'):
    judge.ask(wanted, make())
  asked = len(server.bodies)
  said = judge.ask(wanted, make())
  assert set(said.replies) == {'q0', 'q1', 'q2'}
  assert len(server.bodies) == asked + 1


def test_partial_goes_on_without_and_counts(make):
  said = judge.ask(asks('ok', '500', '400'), make(partial=True))
  assert set(said.replies) == {'q0'}
  assert said.trouble['q1'] == 'no answer: HTTP 500 oops'
  assert said.trouble['q2'] == 'no answer: HTTP 400 context length exceeded'
  assert '2 of 3 replies are left out, no answer' in said.warnings('gpt-4')[0]


def test_a_bad_request_is_not_tried_twice(server, make):
  judge.ask(asks('400'), make(partial=True))
  assert len(server.bodies) == 1


@pytest.mark.parametrize(
  'deed, says',
  [('401', 'key in OPENAI_API_KEY'), ('quota', 'nothing left')],
)
def test_what_no_retry_mends_stops_at_once(server, make, deed, says):
  with pytest.raises(ValueError, match=says):
    judge.ask(asks(*['ok', deed] + ['ok'] * 40), make(concurrency=1))
  assert len(server.bodies) < 10


def test_a_wrong_address_says_so(server, make):
  with pytest.raises(ValueError, match='check config.judge.url'):
    judge.ask(asks('ok'), make(url=f'{server.url}/nowhere'))
  with pytest.raises(ValueError, match='want http'):
    make(url='localhost:8000')


def test_a_dead_server_is_given_up_and_the_rest_is_not_asked(tmp_path):
  with serving() as server:
    url = server.url
  dead = Judge('m', tmp_path, url, retries=1, backoff=0.01, concurrency=2)
  begun = time.monotonic()
  with pytest.raises(ValueError, match='200 of 200 .*ConnectError'):
    judge.ask(asks(*['ok'] * 200), dead)
  assert time.monotonic() - begun < 10


def test_no_more_are_asked_at_once_than_allowed(server, make):
  server.slow = 0.05
  judge.ask(asks(*['slow'] * 12), make(concurrency=3))
  assert 2 <= server.most_at_once <= 3


def test_a_kept_file_may_end_in_half_a_line(make):
  wanted = asks('ok', 'ok')
  first = judge.ask(wanted, make())
  (path,) = make().cache.glob('*.jsonl')
  whole = path.read_text()
  path.write_text(whole[:-9])
  again = judge.ask(wanted, make())
  assert again == first
  assert len(list(make().cache.glob('*.jsonl'))) == 2
  path.write_text(whole + '{"no": "reply"}\n')
  with pytest.raises(ValueError, match='line 3: not a kept reply'):
    judge.ask(wanted, make())


def test_batch_files_go_out_and_come_back(make, tmp_path):
  wanted, folder = asks('a', 'b', 'c', 'd'), tmp_path / 'batch'
  (path,) = judge.export(wanted, make(), folder / 'requests.jsonl')
  lines = files.read_lines(path)
  assert [line['url'] for line in lines] == ['/v1/chat/completions'] * 4
  assert len({line['custom_id'] for line in lines}) == 4
  back = [
    {'id': 'x', 'custom_id': line['custom_id'], 'error': None,
     'response': {'status_code': 200, 'body': _completion(f'Rating: {i}')}}
    for i, line in enumerate(lines)
  ]  # fmt: skip
  back[2]['response'] = {'status_code': 500, 'body': {'error': 'overloaded'}}
  back[3] |= {'response': None, 'error': {'code': 'batch_expired'}}
  # In any order, and without a last line break.
  (folder / 'out.jsonl').write_text('\n'.join(map(json.dumps, back[::-1])))
  new, failed = batch.collect(folder, Cache(make().cache))
  assert new == 2 and len(failed) == 2
  assert batch.collect(folder, Cache(make().cache))[0] == 0
  with pytest.raises(ValueError, match='2 of 4 replies'):
    judge.ask(wanted, make(url=''))
  said = judge.ask(wanted[:2], make(url=''))
  assert said.replies == {'q0': 'Rating: 0', 'q1': 'Rating: 1'}
  (path,) = judge.export(wanted, make(), folder / 'requests.jsonl')
  left = [line['custom_id'] for line in files.read_lines(path)]
  assert left == [line['custom_id'] for line in lines[2:]]


def test_many_requests_make_several_files(tmp_path):
  bodies = {key({'n': i}): {'n': i} for i in range(5)}
  paths = batch.write(tmp_path / 'r.jsonl', bodies, most=2)
  assert [len(files.read_lines(p)) for p in paths] == [2, 2, 1]


def test_a_strange_file_is_no_batch_file(tmp_path):
  path = tmp_path / 'out.jsonl'
  path.write_text('{"custom_id": "mine", "response": {}}\n')
  with pytest.raises(ValueError, match='out.jsonl, line 1: not a reply'):
    batch.read(path, Cache(tmp_path / 'cache'))


def test_the_cost_is_told_before(make, capsys):
  made = make(price_in=10.0, price_out=30.0)
  requests = [request(str(i), f'{i}' * 4000, max_tokens=500) for i in range(8)]
  into, out = cost.tokens(b for _, b in judge.asked(requests, made).values())
  assert into == pytest.approx(8000, rel=0.01) and out == 4000
  judge.ask(requests, made)
  assert 'at most 0.20' in capsys.readouterr().err


@pytest.mark.parametrize(
  'wrong', [{'concurrency': 0}, {'retries': -1}, {'timeout': 0.0}]
)
def test_settings_that_cannot_be(make, wrong):
  (name,) = wrong
  with pytest.raises(ValueError, match=f'config.judge.{name} cannot be'):
    make(**wrong)


def _completion(text):
  message = {'role': 'assistant', 'content': text}
  return {'model': 'gpt-4', 'choices': [{'message': message}]}
