// The suite's own web server, held to 127.0.0.1 and to a port that is free.
//
//     node origin.mjs SUITE
//
// SUITE is the folder of the suite. The server offers neither choice, so both are put into its call of `listen`; it then prints
// `Listening on http://ADDRESS:PORT/` by itself.

import http from 'node:http'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { existsSync } from 'node:fs'

const suite = process.argv[2]
const newer = path.join(suite, 'test-engine')
const engine = existsSync(newer) ? newer : suite

const listen = http.Server.prototype.listen
http.Server.prototype.listen = function () {
  return listen.call(this, { host: '127.0.0.1', port: 0 })
}

// What npm would pass from package.json; the port only serves the server to complete its own URLs.
process.env.npm_config_protocol = 'http'
process.env.npm_config_port = '80'
process.env.npm_config_pidfile = '/dev/null'

await import(pathToFileURL(path.join(engine, 'server', 'server.mjs')))
