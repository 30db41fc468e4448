"""A page as a parser meets it: tags left open, links, ids and texts."""

from html.parser import HTMLParser


class Reader(HTMLParser):
  """Collects the tags that stay open, what is linked, ids and texts."""

  VOID = ('meta', 'img', 'br', 'link', 'input')

  def __init__(self, html):
    super().__init__()
    self.open, self.seen, self.links, self.ids, self.texts = [], [], [], [], []
    self.handlers = []
    self.feed(html)
    self.close()

  def handle_starttag(self, tag, attrs):
    self.seen.append(tag)
    self.links += [v for k, v in attrs if k in ('src', 'href', 'xlink:href')]
    self.ids += [v for k, v in attrs if k == 'id']
    self.handlers += [k for k, _ in attrs if k.startswith('on')]
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.handle_starttag(tag, attrs)
    if tag not in self.VOID:
      self.open.pop()

  def handle_endtag(self, tag):
    assert self.open and self.open.pop() == tag, f'</{tag}> closes another'

  def handle_data(self, data):
    if self.open and self.open[-1] not in ('style', 'script'):
      self.texts.append(data)
