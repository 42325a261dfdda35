#!/usr/bin/env python3
"""Installs what packaging/dist.sh has built, each thing where nothing of it was before, and uses it there:

    packaging/try.py [archive] [cargo] [wheel] [npm] [deb] [image]

`deb` and `image` need root and debootstrap: they get a Debian of their own, below target/try. `image` plays the last stage of
the Dockerfile in one, step by step; no container runtime is tried. What cannot be tried here says NOT RUN, and fails with
CI=true. The last line counts: `N passed, N failed, N skipped`.
"""

import glob
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DIST = os.path.join(ROOT, "target", "dist")
TRY = os.path.join(ROOT, "target", "try")
VERSION = re.search(r'^version = "(.*)"', open(os.path.join(ROOT, "Cargo.toml")).read(), re.M).group(1)
SUITE = "bookworm"
CLEAN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"}


class NotRun(Exception):
    """This machine cannot try it."""


def run(*command, **options):
    """What a command printed; its failure is ours."""
    options.setdefault("env", dict(CLEAN))
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600, **options)
    text = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise AssertionError("%s: exit code %d\n%s" % (" ".join(command), done.returncode, text))
    return text


def built(pattern):
    """The one file of target/dist with such a name."""
    found = glob.glob(os.path.join(DIST, pattern))
    assert len(found) == 1, "%s: %s; run packaging/dist.sh first" % (pattern, found)
    return found[0]


def folder(name):
    """An empty folder."""
    path = os.path.join(TRY, name)
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    return path


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def use(*program):
    """Whether the program does what it is for: serves, sends, receives, and stops in order."""
    assert run(*program, "--version").split() == ["rainbow-server", VERSION]
    assert "connect_url" in run(*program, "--print-config")
    assert "complete" in run(*program, "completions", "bash")
    port = free_port()
    url = "http://127.0.0.1:%d" % port
    server = subprocess.Popen(program + ("--demo", "-p", str(port)), env=CLEAN, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        banner = b""
        while b"Ctrl-C" not in banner:
            line = server.stdout.readline()
            assert line, "the demo ended: %r" % banner
            banner += line
        with urllib.request.urlopen(url + "/hello/", timeout=10) as answer:
            assert answer.read() == b"ok"
        token = re.search(rb"printf '%s\\n' ([0-9a-f]+) ", banner).group(1).decode()
        tail = subprocess.Popen(
            program + ("tail", "--json", "-n", "1", "--seconds", "30", "--url", url),
            env=CLEAN, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert b"connected" in tail.stdout.readline()
        run(*program, "send", "--url", url, "--expect", "1", "lobby", '{"text": "hello"}', env=dict(CLEAN, RAINBOW_TOKEN=token))
        assert b"hello" in tail.stdout.read()
        assert tail.wait(timeout=30) == 0
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=30) == 0, server.returncode
    finally:
        server.kill()
        server.wait()


def archive():
    prefix = folder("archive")
    run("tar", "-xzf", built("rainbow-server-%s-*-linux-gnu.tar.gz" % VERSION), "-C", prefix, "--strip-components=1")
    use(os.path.join(prefix, "rainbow-server"))
    for path in ("README.md", "LICENSE", "CHANGELOG.md", "server.ini", "rainbow-server.1", "rainbow-server.service",
                 "completions/rainbow-server.zsh", "docs/client.md", "examples/business.py", "ops/alerts.yml",
                 "sdk/js/rainbow.js", "sdk/python/rainbow_sdk/__init__.py"):
        assert os.path.isfile(os.path.join(prefix, path)), path
    run(os.path.join(prefix, "rainbow-server"), "-f", os.path.join(prefix, "server.ini"), "--check-config")
    sums = run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=DIST)
    assert "FAILED" not in sums


def cargo():
    prefix = folder("cargo")
    run("cargo", "install", "--path", ROOT, "--locked", "--quiet", "--root", prefix, env=dict(os.environ, CARGO_TARGET_DIR=os.path.join(ROOT, "target")))
    use(os.path.join(prefix, "bin", "rainbow-server"))


def wheel():
    environment = folder("wheel")
    run(sys.executable, "-m", "venv", environment, env=dict(os.environ))
    pip = os.path.join(environment, "bin", "pip")
    run(pip, "install", "--no-index", "--no-deps", built("rainbow_server-%s-*.whl" % VERSION))
    assert "Version: %s\n" % VERSION in run(pip, "show", "rainbow-server")
    use(os.path.join(environment, "bin", "rainbow-server"))
    run(pip, "uninstall", "--yes", "rainbow-server")
    assert not os.path.exists(os.path.join(environment, "bin", "rainbow-server"))


def npm():
    prefix = folder("npm")
    environment = dict(os.environ, HOME=prefix, npm_config_cache=os.path.join(prefix, "cache"))
    packages = [built("rainbow-server-linux-x64-%s.tgz" % VERSION), built("rainbow-server-%s.tgz" % VERSION)]
    # Offline: the package for this machine is one of the two, so that nothing has to be looked up.
    run("npm", "install", "--global", "--offline", "--no-audit", "--no-fund", "--prefix", prefix, *packages, env=environment)
    use(os.path.join(prefix, "bin", "rainbow-server"))
    refused = subprocess.run([os.path.join(prefix, "bin", "rainbow-server"), "--nonsense"], env=CLEAN, stderr=subprocess.DEVNULL)
    assert refused.returncode == 2


class Debian:
    """A Debian of its own, with nothing but what is essential."""

    def __init__(self, name):
        if os.geteuid() != 0:
            raise NotRun("it needs root")
        if shutil.which("debootstrap") is None:
            raise NotRun("debootstrap is not installed")
        os.makedirs(TRY, exist_ok=True)
        base = os.path.join(TRY, "base.tar")
        if not os.path.exists(base):
            first = folder("base")
            run("debootstrap", "--variant=minbase", "--include=adduser,ca-certificates", SUITE, first, env=dict(os.environ))
            run("tar", "-cf", base + ".part", "-C", first, "--exclude=./proc/*", "--exclude=./sys/*", ".")
            os.rename(base + ".part", base)
            shutil.rmtree(first)
        self.root = folder(name)
        run("tar", "-xf", base, "-C", self.root)

    def run(self, *command, **options):
        return run("chroot", self.root, *command, **options)

    def path(self, path):
        return os.path.join(self.root, path.lstrip("/"))

    def user(self, name):
        """User and group as chroot takes them."""
        return "--userspec=%s:%s" % (name, name)


def deb():
    debian = Debian("deb")
    package = built("rainbow-server_%s-1_*.deb" % VERSION)
    shutil.copy(package, debian.path("/tmp/rainbow-server.deb"))
    debian.run("dpkg", "-i", "/tmp/rainbow-server.deb", env=dict(CLEAN, DEBIAN_FRONTEND="noninteractive"))
    assert debian.run("dpkg-query", "-W", "-f", "${Version}", "rainbow-server") == VERSION + "-1"
    use("chroot", debian.user("rainbow-server"), debian.root, "/usr/bin/rainbow-server")
    for path in ("/usr/share/man/man1/rainbow-server.1.gz", "/usr/share/bash-completion/completions/rainbow-server",
                 "/usr/share/zsh/vendor-completions/_rainbow-server",
                 "/usr/share/fish/vendor_completions.d/rainbow-server.fish",
                 "/usr/share/doc/rainbow-server/examples/business.py", "/usr/share/doc/rainbow-server/ops/alerts.yml",
                 "/usr/share/doc/rainbow-server/docs/configuration.md",
                 "/usr/share/rainbow-server/sdk/js/rainbow.js", "/usr/share/rainbow-server/sdk/python/rainbow_sdk/__init__.py"):
        assert os.path.exists(debian.path(path)) or os.path.exists(debian.path(path + ".gz")), path
    # The settings hold the secret: for root and the server only.
    settings = os.stat(debian.path("/etc/rainbow-server/server.ini"))
    assert settings.st_mode & 0o777 == 0o640 and settings.st_uid == 0 and settings.st_gid != 0, settings
    check = ("/usr/bin/rainbow-server", "-f", "/etc/rainbow-server/server.ini", "--check-config")
    run("chroot", debian.user("rainbow-server"), debian.root, *check)
    nobody = subprocess.run(("chroot", debian.user("nobody") .replace(":nobody", ":nogroup"), debian.root) + check, env=CLEAN,
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert nobody.returncode == 2, "who is not of the group cannot read the settings"
    debian.run("dpkg", "--purge", "rainbow-server")
    assert not os.path.exists(debian.path("/usr/bin/rainbow-server"))
    assert not os.path.exists(debian.path("/etc/rainbow-server/server.ini"))


def instructions(dockerfile):
    """The instructions of the last stage: name and text, continued lines joined."""
    lines = open(dockerfile).read().replace("\\\n", " ").splitlines()
    parts = [line.split(None, 1) for line in lines if line.strip() and not line.startswith("#")]
    last = max(at for at, part in enumerate(parts) if part[0] == "FROM")
    return parts[last:]


def image():
    steps = instructions(os.path.join(ROOT, "Dockerfile"))
    assert steps[0][1].startswith("debian:%s-slim" % SUITE), steps[0]
    debian = Debian("image")
    shutil.copy("/etc/resolv.conf", debian.path("/etc/resolv.conf"))
    for apt in glob.glob("/etc/apt/apt.conf.d/*proxy*"):
        shutil.copy(apt, debian.path("/etc/apt/apt.conf.d/"))
    user, entry, arguments = "root", None, None
    for name, text in steps[1:]:
        if name == "RUN":
            debian.run("sh", "-ec", text, env=dict(os.environ, **CLEAN))
        elif name == "COPY":
            words = shlex.split(text)
            if words[0] == "--from=build":
                source = os.path.join(ROOT, "target", words[1].split("/target/")[1])
                words = words[1:]
            else:
                source = os.path.join(ROOT, words[0])
            os.makedirs(os.path.dirname(debian.path(words[1])), exist_ok=True)
            shutil.copy(source, debian.path(words[1]))
        elif name == "USER":
            user = text.strip()
        elif name in ("ENTRYPOINT", "CMD"):
            words = re.findall(r'"([^"]*)"', text)
            entry, arguments = (words, arguments) if name == "ENTRYPOINT" else (entry, words)
        else:
            assert name in ("EXPOSE", "STOPSIGNAL", "LABEL"), "unknown instruction %s" % name
    program = ("chroot", debian.user(user), debian.root) + tuple(entry)
    assert user != "root"
    run(*program, *arguments, "--check-config")
    use(*program)


ALL = [archive, cargo, wheel, npm, deb, image]


def main():
    wanted = sys.argv[1:] or [step.__name__ for step in ALL]
    passed = failed = skipped = 0
    for step in ALL:
        if step.__name__ not in wanted:
            continue
        began = time.time()
        try:
            step()
            passed += 1
            print("%-8s ok, %.0f s" % (step.__name__, time.time() - began), flush=True)
        except NotRun as why:
            skipped += 1
            print("%-8s NOT RUN: %s" % (step.__name__, why), flush=True)
        except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
            failed += 1
            print("%-8s FAILED: %s" % (step.__name__, error), flush=True)
    print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))
    is_ci = os.environ.get("CI") == "true"
    sys.exit(1 if failed or (is_ci and skipped) or not passed else 0)


if __name__ == "__main__":
    main()
