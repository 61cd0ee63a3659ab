"""The Debian packages: installed by apt, used as their users would, and purged, which must leave nothing.

Before that, what they hold is compared with what `cmake --install` of their build installs.

It runs in an overlay of the root file system in a mount namespace of its own, so that the machine keeps nothing of it, whatever happens. Where
that is refused, but the user is root, it installs on the machine and purges there, also after a failure or Ctrl-C. Else it ends with 77: nothing was
tested.

Arguments: the folder of the build, which has the packages. Within the overlay: --here, the folder of the packages.
"""
import fnmatch
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

from programs import C, CXX, run

PACKAGES = {}  # name: file
CONTENTS = {}  # name: its paths, those of folders with a / behind

FIND = """cmake_minimum_required(VERSION 3.25)
project(outside LANGUAGES CXX)
find_package(store REQUIRED)
add_executable(cxx main.cpp)
target_link_libraries(cxx PRIVATE store::store)
"""

# Arguments: an empty folder, that of the packages, that of this file. What is mounted below / is not in the overlay: it is refused where apt and
# what it installs are not in / itself.
OVERLAY = """
mount -t tmpfs tmpfs "$1" && mkdir "$1/upper" "$1/work" "$1/root" &&
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root" &&
[ -x "$1/root/usr/bin/apt-get" ] && [ -s "$1/root/var/lib/dpkg/status" ] &&
for folder in dev proc sys; do mount --rbind "/$folder" "$1/root/$folder" || exit 75; done &&
mount -t tmpfs tmpfs "$1/root/tmp" && mkdir "$1/root/tmp/packages" &&
cp "$2"/*.deb "$3"/*.py "$1/root/tmp/packages" || exit 75
exec chroot "$1/root" python3 /tmp/packages/deb.py --here /tmp/packages
"""
REFUSED = 75


def read(folder):
    """The packages of a folder, and what they hold."""
    for file in glob.glob(folder + "/*.deb"):
        name = run("dpkg-deb", "--field", file, "Package").strip()
        PACKAGES[name] = file
        CONTENTS[name] = {path[1:] for path in run("sh", "-c", 'dpkg-deb --fsys-tarfile "$0" | tar t', file).split()}


def apt(*arguments):
    """Ctrl-C waits for its end, for what was installed by halves cannot be purged."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        run("apt-get", "-q", "-y", "--no-install-recommends", *arguments, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def installed():
    """Those of the packages of which dpkg has anything."""
    states = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\n", *PACKAGES], capture_output=True, text=True).stdout
    return [name for state, name in map(str.split, states.splitlines()) if state != "not-installed"]


def excluded(path):
    """Whether dpkg is told not to unpack a file, as images of containers tell it of man pages: the last rule that fits decides."""
    rules = []
    for file in ["/etc/dpkg/dpkg.cfg", *sorted(glob.glob("/etc/dpkg/dpkg.cfg.d/*"))]:
        if os.path.exists(file):
            with open(file) as lines:
                rules += re.findall(r"(?m)^\s*path-(exclude|include)[\s=]+(\S+)", lines.read())
    return next((kind == "exclude" for kind, pattern in reversed(rules) if fnmatch.fnmatch(path, pattern)), False)


class Contents(unittest.TestCase):
    """What `cmake --install` of the build of the packages does."""

    def test_they_hold_what_is_installed(self):
        """Each file is in one of them; and what others have in the same folders stays as it is."""
        with tempfile.TemporaryDirectory() as stage:
            others = {"/usr/share/zsh/site-functions/_other", "/usr/share/man/man1/other.1"}
            for other in others:
                os.makedirs(os.path.dirname(stage + other))
                with open(stage + other, "w"):
                    pass
            run("cmake", "--install", BUILD, env={**os.environ, "DESTDIR": stage})
            found = {os.path.join(path, name)[len(stage):] for path, _, names in os.walk(stage) for name in names}
        self.assertEqual(others - found, set())
        packed = [path for paths in CONTENTS.values() for path in paths if not path.endswith("/")]
        self.assertEqual(sorted(packed), sorted(found - others))

    def test_headers(self):
        include = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../include")
        public = {os.path.join("/usr/include", os.path.relpath(os.path.join(path, name), include))
                  for path, _, names in os.walk(include) for name in names}
        self.assertEqual({path for path in CONTENTS["libstore-dev"] if re.match("/usr/include/.*[^/]$", path)}, public)

    def test_shlibs(self):
        """A program that was linked with this version runs with this one and later ones of the same name."""
        for name in PACKAGES:
            library = re.fullmatch(r"(libstore(?:-cxx)?)([\d.]+)", name)
            if library:
                version = run("dpkg-deb", "--field", PACKAGES[name], "Version").strip()
                self.assertEqual(run("dpkg-deb", "--info", PACKAGES[name], "shlibs"), f"{library[1]} {library[2]} {name} (>= {version})\n")


class Packages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        apt("install", *PACKAGES.values())
        cls.version = run("dpkg-query", "-W", "-f", "${Version}", "libstore-dev").split("-")[0]
        cls.folder = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        for file, text in (("main.cpp", CXX), ("main.c", C)):
            with open(os.path.join(cls.folder, file), "w") as out:
                out.write(text)

    def hello(self, program):
        self.assertEqual(run(f"{self.folder}/{program}", f"{self.folder}/{program}.db"), "hello\n")

    def test_c_by_pkg_config(self):
        run("gcc", "main.c", "-o", "c", *run("pkg-config", "--cflags", "--libs", "store").split(), cwd=self.folder)
        self.hello("c")

    def test_cxx_by_find_package(self):
        """From where CMake looks by itself. The library that the program loads is the package's."""
        with open(self.folder + "/CMakeLists.txt", "w") as out:
            out.write(FIND)
        run("cmake", "-S", self.folder, "-B", self.folder + "/build", "-DCMAKE_CXX_STANDARD=20", "-DBUILD_SHARED_LIBS=ON")
        run("cmake", "--build", self.folder + "/build")
        self.hello("build/cxx")
        loaded = re.search(r"libstore-cxx\S+ => (\S+)", run("ldd", self.folder + "/build/cxx"))[1]
        self.assertEqual(run("dpkg-query", "-S", os.path.realpath(loaded)).split(":")[0], next(name for name in PACKAGES if "cxx" in name))

    def test_the_tool(self):
        self.assertEqual(run("store", "--version"), f"store {self.version}\n")
        for page in ("store", "store-create"):
            path = f"/usr/share/man/man1/{page}.1.gz"
            self.assertIn(path, CONTENTS["store"])
            if not excluded(path):
                self.assertEqual(run("man", "-w", page), path + "\n")
        self.assertIn("create", run("bash", "-c", "source /usr/share/bash-completion/completions/store; COMP_WORDS=(store cr); COMP_CWORD=1; "
                                    "_store; echo ${COMPREPLY[@]}"))
        self.assertEqual(run("zsh", "-fc", "print -l $^fpath/_store(N)"), "/usr/share/zsh/vendor-completions/_store\n")

    def test_python(self):
        script = ("import store; print(store.__version__, store.__file__)\n"
                  f"with store.open('{self.folder}/python.db') as db: db[b'a'] = b'b'; print(db[b'a'])")
        self.assertEqual(run("/usr/bin/python3", "-c", script, cwd="/"), f"{self.version} /usr/lib/python3/dist-packages/store/__init__.py\nb'b'\n")

    def test_what_they_depend_on(self):
        """Each other in this very version; of the rest, what their programs load."""
        whole = run("dpkg-query", "-W", "-f", "${Version}", "libstore-dev")
        depends = {name: run("dpkg-query", "-W", "-f", "${Depends}", name) for name in PACKAGES}
        c, cxx = sorted(name for name in PACKAGES if re.fullmatch(r"libstore(-cxx)?[\d.]+", name))[::-1]
        for name, others in (("libstore-dev", (c, cxx)), ("python3-store", (cxx,))):
            for other in others:
                self.assertIn(f"{other} (= {whole})", depends[name])
        for name in (c, cxx, "store"):
            for library in ("libc6 (>=", "libstdc++6 (>=", "liburing2 (>="):
                self.assertIn(library, depends[name], name)
        for package in ("libfmt-dev", "libisal-dev", "liburing-dev", "pkg-config"):
            self.assertIn(package, depends["libstore-dev"].split(", "))


def inside(folder):
    read(folder)
    if installed():
        sys.exit(f"{installed()} are installed on this machine; that is not this test's to change")
    new = {path for paths in CONTENTS.values() for path in paths if not os.path.lexists(path)}
    try:
        unittest.main(argv=sys.argv[:1], defaultTest="Packages")
    finally:
        if installed():
            apt("purge", *installed())
        left = sorted(filter(os.path.lexists, new))
        if left:
            raise AssertionError(f"purged, but still there: {left}")


def main(folder):
    if os.geteuid() != 0:
        print("deb: SKIPPED, nothing was tested: it takes root to install packages", file=sys.stderr)
        sys.exit(77)
    read(folder)
    if not unittest.main(argv=sys.argv[:1], defaultTest="Contents", exit=False).result.wasSuccessful():
        sys.exit(1)
    status = REFUSED
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0:
        here = os.path.dirname(os.path.abspath(__file__))
        with tempfile.TemporaryDirectory() as top:
            status = subprocess.run(["unshare", "--mount", "sh", "-c", OVERLAY, "sh", top, folder, here]).returncode
    if status != REFUSED:
        sys.exit(status)
    print("deb: an overlay is refused here, the packages are installed on the machine itself", file=sys.stderr)
    inside(folder)


if __name__ == "__main__":
    if sys.argv[1] == "--here":
        inside(sys.argv[2])
    else:
        BUILD = os.path.abspath(sys.argv[1])
        main(BUILD)
