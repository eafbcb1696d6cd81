// Reads streams as llhttp does, the parser of Node.js: a line is `q` (requests) or `s` (answers), the
// bytes in hexadecimal and the size of the pieces in which they arrive. The answer to it is a line of
// JSON: whole messages as [start, body in hexadecimal], and how it ended.
'use strict';
const binding = process.binding('http_parser');
const { HTTPParser } = binding;
const methods = binding.allMethods || binding.methods;

function read(kind, bytes, piece) {
  const parser = new HTTPParser();
  parser.initialize(kind === 'q' ? HTTPParser.REQUEST : HTTPParser.RESPONSE, {});
  const messages = [];
  let start = null, body = [], target = '', end = 'open';
  parser[HTTPParser.kOnHeaders] = (_headers, url) => { target += url; };
  parser[HTTPParser.kOnHeadersComplete] =
    (_major, _minor, _headers, method, url, status, _message, upgrade) => {
      start = kind === 'q' ? methods[method] + ' ' + (url || target) : status;
      target = '';
      if (upgrade) end = 'upgrade';
      return 0;
    };
  parser[HTTPParser.kOnBody] = (chunk, offset, length) => {
    // Older versions hand over the buffer that is being read, and where in it.
    body.push(Buffer.from(offset === undefined ? chunk : chunk.subarray(offset, offset + length)));
  };
  parser[HTTPParser.kOnMessageComplete] = () => {
    messages.push([start, Buffer.concat(body).toString('hex')]);
    start = null;
    body = [];
    // Trailers are handed over with the target once more.
    target = '';
  };
  for (let at = 0; at < bytes.length && end === 'open'; at += piece) {
    const result = parser.execute(bytes.subarray(at, at + piece));
    if (result instanceof Error) end = result.code || 'error';
  }
  if (end === 'open' && parser.finish() instanceof Error) end = 'cut';
  return { messages, end };
}

const lines = require('fs').readFileSync(0, 'latin1').split('\n').filter((line) => line);
const answers = lines.map((line) => {
  const [kind, hex, piece] = line.split(' ');
  return JSON.stringify(read(kind, Buffer.from(hex, 'hex'), Number(piece)));
});
process.stdout.write(answers.join('\n') + '\n');
