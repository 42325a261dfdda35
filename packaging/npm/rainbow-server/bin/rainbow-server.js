#!/usr/bin/env node
// Runs the program of the package for this machine: passes arguments, input, output and signals, and ends as it ends.
'use strict';
const { spawn } = require('node:child_process');
const os = require('node:os');

const name = `rainbow-server-${process.platform}-${process.arch}`;
let program;
try {
  program = require.resolve(`${name}/bin/rainbow-server`);
} catch {
  console.error(`rainbow-server: there is no package ${name}; build it with cargo, or use Linux on x86-64 with glibc`);
  process.exit(2);
}
const child = spawn(program, process.argv.slice(2), { stdio: 'inherit' });
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT']) {
  // A terminal sends SIGINT to both; the server takes a second one for "at once", so only those for us alone are passed on.
  process.on(signal, () => {
    if (signal !== 'SIGINT' || !process.stdin.isTTY) child.kill(signal);
  });
}
child.on('error', (error) => {
  console.error(`rainbow-server: ${program}: ${error.message}`);
  process.exit(2);
});
child.on('exit', (code, signal) => process.exit(signal ? 128 + os.constants.signals[signal] : code));
