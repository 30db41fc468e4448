"""The part of JobSet's schema (v1alpha2), and of a Job's, that we write in.

A dict is an object with these fields and no others, a list holds such items;
'!' marks what has to be there.
"""

from typing import Any

STRINGS = {'*': str}
METADATA = {'name': str, 'labels': STRINGS, 'annotations': STRINGS}
CONTAINER = {
  'name!': str,
  'image!': str,
  'command': [str],
  'args': [str],
  'env': [{'name!': str, 'value': str}],
  'ports': [{'containerPort!': int, 'name': str}],
  'resources': {'requests': {'*': int}, 'limits': {'*': int}},
  'volumeMounts': [{'name!': str, 'mountPath!': str, 'readOnly': bool}],
}
POD = {
  'restartPolicy!': str,
  'serviceAccountName': str,
  'terminationGracePeriodSeconds': int,
  'nodeSelector': STRINGS,
  'containers!': [CONTAINER],
  'volumes': [{
    'name!': str,
    'csi': {
      'driver!': str, 'readOnly': bool, 'volumeAttributes': STRINGS
    },
  }],
}  # fmt: skip
JOB = {
  'parallelism': int,
  'completions': int,
  'backoffLimit': int,
  'completionMode': str,
  'template!': {'metadata': METADATA, 'spec!': POD},
}
JOBSET = {
  'apiVersion!': str,
  'kind!': str,
  'metadata!': {'name!': str, 'labels': STRINGS, 'annotations': STRINGS},
  'spec!': {
    'failurePolicy': {'maxRestarts': int},
    'network': {'enableDNSHostnames': bool, 'subdomain': str},
    'suspend': bool,
    'replicatedJobs!': [{
      'name!': str,
      'replicas': int,
      'template!': {'metadata': METADATA, 'spec!': JOB},
    }],
  },
}  # fmt: skip
NAMES = {str: 'a string', int: 'an integer', bool: 'true or false'}


def check(found: Any, schema: Any = JOBSET, where: str = 'manifest') -> None:
  """Raises where a manifest is not what the schema says."""
  if isinstance(schema, list):
    if not isinstance(found, list):
      raise ValueError(f'{where} is no list')
    for i, item in enumerate(found):
      check(item, schema[0], f'{where}[{i}]')
  elif isinstance(schema, dict):
    if not isinstance(found, dict):
      raise ValueError(f'{where} is no object')
    fields = {k.rstrip('!'): v for k, v in schema.items()}
    for k in schema:
      if k.endswith('!') and k[:-1] not in found:
        raise ValueError(f'{where} wants {k[:-1]}')
    for k, v in found.items():
      if k not in fields and '*' not in fields:
        raise ValueError(f'{where} has no field {k}')
      check(v, fields.get(k, fields.get('*')), f'{where}.{k}')
  elif type(found) is not schema:
    raise ValueError(f'{where} is not {NAMES[schema]}: {found!r}')
  if where == 'manifest':
    told = found['apiVersion'], found['kind']
    if told != ('jobset.x-k8s.io/v1alpha2', 'JobSet'):
      raise ValueError(f'{told} is not what this schema is of')
