// Runs the suite's client against a proxy and writes down what came of every test.
//
//     node client.mjs SUITE URL FILE
//
// SUITE is the folder of the suite, URL where the proxy listens, FILE gets a JSON list with one object for each test:
//
//     { "id": "…", "group": "…", "kind": "required", "depends_on": ["…"], "passed": true, "reason": "" }
//
// It judges nothing: dependencies and expectations are the business of its caller. It stands in for the suite's own command line,
// which knows the kinds and dependencies but does not print them.

import path from 'node:path'
import { createRequire } from 'node:module'
import { existsSync, writeFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'

const [, , suite, url, file] = process.argv
const load = (...parts) => import(pathToFileURL(path.join(suite, ...parts)))

const groups = (await load('tests', 'index.mjs')).default
let runner
if (existsSync(path.join(suite, 'test-engine'))) {
  runner = await load('test-engine', 'client', 'runner.mjs')
  await runner.runTests(groups, false, url)
} else {
  // The published package is older: it brings its own fetch, without a time limit, and lists one group apart.
  groups.push((await load('tests', 'surrogate-control.mjs')).default)
  const fetch = createRequire(path.join(suite, 'package.json'))('node-fetch')
  runner = await load('client', 'runner.mjs')
  await runner.runTests(groups, (target, init) => fetch(target, { timeout: 10_000, ...init }), false, url)
}

const results = runner.getResults()
const outcomes = []
for (const group of groups) {
  for (const test of group.tests) {
    const result = results[test.id]
    // Not run: the test is for browsers.
    if (result === undefined) continue
    outcomes.push({
      id: test.id,
      group: group.id,
      kind: test.kind ?? 'required',
      depends_on: test.depends_on ?? [],
      passed: result === true,
      reason: result === true ? '' : result.join(': ')
    })
  }
}
writeFileSync(file, JSON.stringify(outcomes, null, 2) + '\n')
// Connections that are kept alive, and time limits still running, would hold the process.
process.exit(0)
