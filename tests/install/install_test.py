"""What `cmake --install` leaves, as an outside project uses it: by find_package and by pkg-config, static and shared, and the
sources by add_subdirectory; and that one version is told everywhere."""
import ctypes
import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest

from programs import C, CXX, run

CMAKE = os.environ["STORE_CMAKE"]
CXX_COMPILER = os.environ["STORE_CXX"]
BUILD = os.environ["STORE_BUILD_DIR"]
SOURCE = os.environ["STORE_SOURCE_DIR"]

with open(os.path.join(SOURCE, "docs", "getting-started.md")) as page:
    FIND = re.search(r"(?ms)^```cmake\n(.*?)^```$", page.read())[1]
FIND = FIND.replace("find_package(store", "find_package(store @VERSION@") + """enable_language(C)
get_target_property(engine store::store INTERFACE_LINK_LIBRARIES)
message(STATUS "engine=${engine}")
add_library(main_cpp OBJECT main.cpp)
target_link_libraries(main_cpp PRIVATE store::store)
foreach(library static shared)
  add_executable(${library} $<TARGET_OBJECTS:main_cpp>)
  set_target_properties(${library} PROPERTIES LINKER_LANGUAGE CXX)
  target_link_libraries(${library} PRIVATE store::${library})
endforeach()
foreach(library c_static c)
  add_executable(${library} main.c)
  target_link_libraries(${library} PRIVATE store::${library})
endforeach()
"""
SUBDIRECTORY = """cmake_minimum_required(VERSION 3.25)
project(outside LANGUAGES CXX)
add_subdirectory("@SOURCE@" store)
add_executable(cxx main.cpp)
target_link_libraries(cxx PRIVATE store::store)
"""


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.stage = os.path.join(cls.folder.name, "stage")
        run(CMAKE, "--install", BUILD, "--prefix", cls.stage)
        cls.library = next(os.path.join(cls.stage, path) for path in ("lib", "lib64", "lib/x86_64-linux-gnu")
                           if os.path.exists(os.path.join(cls.stage, path, "libstore.so")))
        cls.version = run(os.path.join(cls.stage, "bin", "store"), "--version").split()[-1]
        major, minor, _ = cls.version.split(".")
        cls.c_soname, cls.cxx_soname = f"libstore.so.{major}", f"libstore-cxx.so.{major}.{minor}"

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def project(self, name, lists):
        folder = os.path.join(self.folder.name, name)
        os.mkdir(folder)
        for file, text in (("CMakeLists.txt", lists), ("main.cpp", CXX), ("main.c", C)):
            with open(os.path.join(folder, file), "w") as out:
                out.write(text)
        return folder

    def hello(self, program, folder, name, environment=None):
        self.assertEqual(run(program, f"{folder}/{name}.db", env={**os.environ, **(environment or {})}), "hello\n")

    def loads(self, program):
        """The libraries of this project that the dynamic linker is to find for a program."""
        return re.findall(r"NEEDED +(libstore\S*)", run("objdump", "-p", program))

    def test_find_package(self):
        """Programs with each of the libraries; store::store is the one that BUILD_SHARED_LIBS asks for."""
        folder = self.project("found", FIND.replace("@VERSION@", self.version))
        build = folder + "/build"
        configure = (CMAKE, "-S", folder, "-B", build, f"-DCMAKE_PREFIX_PATH={self.stage}")
        self.assertIn("engine=store::static\n", run(*configure))
        run(CMAKE, "--build", build)
        for program, libraries in (("static", []), ("shared", [self.cxx_soname]), ("app", []), ("c_static", []), ("c", [self.c_soname])):
            with self.subTest(program):
                self.assertEqual(self.loads(f"{build}/{program}"), libraries)
                self.hello(f"{build}/{program}", folder, program)
        self.assertIn("engine=store::shared\n", run(*configure, "-DBUILD_SHARED_LIBS=ON"))

    def test_another_version_is_refused(self):
        folder = self.project("newer", FIND.replace("@VERSION@", "999.0"))
        refused = subprocess.run([CMAKE, "-S", folder, "-B", folder + "/build", f"-DCMAKE_PREFIX_PATH={self.stage}"],
                                 capture_output=True, text=True)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("999.0", refused.stderr)

    def test_pkg_config(self):
        """Each library shared, and as an archive. Not with -static, for Debian has no archives of fmt and ISA-L."""
        folder = self.project("pkg", "")

        def flags(*arguments):
            where = {**os.environ, "PKG_CONFIG_PATH": self.library + "/pkgconfig"}
            return run("pkg-config", "--define-prefix", *arguments, env=where).split()

        for package in ("store", "store-cxx"):
            self.assertEqual(flags("--modversion", package), [self.version])
        run("g++", "-std=c++20", "-c", "main.cpp", "-o", "cxx.o", *flags("--cflags", "store-cxx"), cwd=folder)
        run("gcc", "-std=c99", "-c", "main.c", "-o", "c.o", *flags("--cflags", "store"), cwd=folder)
        for program, compiler, unit, package, soname in (("cxx", "g++", "cxx.o", "store-cxx", self.cxx_soname),
                                                         ("c", "gcc", "c.o", "store", self.c_soname)):
            with self.subTest(program):
                run(compiler, unit, "-o", program, *flags("--libs", package), cwd=folder)
                self.assertEqual(self.loads(f"{folder}/{program}"), [soname])
                self.hello(f"{folder}/{program}", folder, program, {"LD_LIBRARY_PATH": self.library})
                archives = [re.sub("^-l(store.*)", r"-l:lib\1.a", flag) for flag in flags("--static", "--libs", package)]
                run(compiler, unit, "-o", program + "_static", *archives, cwd=folder)
                self.assertEqual(self.loads(f"{folder}/{program}_static"), [])
                self.hello(f"{folder}/{program}_static", folder, program)

    def test_one_version(self):
        """CMakeLists.txt has the version; libraries, their names, the tool, CMake, pkg-config (above) and Python tell the same."""
        with open(SOURCE + "/CMakeLists.txt") as lists:
            self.assertEqual(re.search(r"project\(store VERSION (\S+)", lists.read())[1], self.version)
        for name, soname in (("libstore.so", self.c_soname), ("libstore-cxx.so", self.cxx_soname)):
            self.assertIn(f"SONAME {soname}\n", re.sub(" +", " ", run("objdump", "-p", f"{self.library}/{name}")))
            self.assertEqual(os.path.basename(os.path.realpath(f"{self.library}/{name}")), f"{name}.{self.version}")
        library = ctypes.CDLL(self.library + "/libstore.so")
        library.store_version.restype = ctypes.c_char_p
        self.assertEqual(library.store_version().decode(), self.version)
        major, minor, patch = map(int, self.version.split("."))
        self.assertEqual(library.store_version_number(), major * 10000 + minor * 100 + patch)
        if os.path.isdir(BUILD + "/python"):
            told = run("/usr/bin/python3", "-c", "import store; print(store.__version__)", env={**os.environ, "PYTHONPATH": BUILD + "/python"})
            self.assertEqual(told, self.version + "\n")

    def test_add_subdirectory(self):
        """Only the engine is built, from the same sources with the same flags, so that ccache has it; the outside program sees none of those flags."""
        folder = self.project("sources", SUBDIRECTORY.replace("@SOURCE@", SOURCE))
        build = tempfile.mkdtemp(prefix="install_test_", dir=os.path.dirname(BUILD))  # where paths relative to CCACHE_BASEDIR are those of BUILD
        self.addCleanup(shutil.rmtree, build)
        launcher = ["-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []
        run(CMAKE, "-S", folder, "-B", build, "-G", "Ninja", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", f"-DCMAKE_CXX_COMPILER={CXX_COMPILER}", *launcher)
        with open(build + "/CMakeCache.txt") as cache:
            self.assertIn("STORE_DEVELOPER:BOOL=OFF", cache.read())
        run(CMAKE, build, "-DCMAKE_BUILD_TYPE=Release", "-DSTORE_DEVELOPER=ON")
        with open(build + "/compile_commands.json") as commands:
            outside = next(entry["command"] for entry in json.load(commands) if entry["file"] == folder + "/main.cpp")
        self.assertEqual([flag for flag in outside.split() if flag.startswith(("-W", "-m", "-f"))], [])
        run(CMAKE, "--build", build)
        self.hello(build + "/cxx", folder, "cxx")

    def test_man_pages_and_completions(self):
        """A page for each command, without a complaint of groff; bash completes commands, flags and files."""
        share = os.path.join(self.stage, "share")
        program = os.path.join(self.stage, "bin", "store")
        commands = run(program, "manual", "list").split()
        self.assertIn("reshard", commands)
        self.assertNotIn("manual", commands)
        pages = sorted(os.listdir(share + "/man/man1"))
        self.assertEqual(pages, sorted(["store.1"] + [f"store-{command}.1" for command in commands]))
        for page in pages:
            done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z", os.path.join(share, "man/man1", page)],
                                  capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stderr), (0, ""), page)
        text = re.sub(r".\x08", "", run("groff", "-man", "-Tascii", share + "/man/man1/store-create.1"))  # without overstrikes
        for words in ("SYNOPSIS", "--overwrite", "store create app.db"):
            self.assertIn(words, text)

        def completed(*words):
            script = (f"source {share}/bash-completion/completions/store; COMP_WORDS=({' '.join(words)}); "
                      f"COMP_CWORD={len(words) - 1}; _store; printf '%s\\n' \"${{COMPREPLY[@]}}\"")
            return run("bash", "-c", script, cwd=self.stage).split()

        self.assertEqual(completed("store", "cr"), ["create"])
        self.assertEqual(completed("store", "create", "--ov"), ["--overwrite"])
        self.assertEqual(completed("store", "create", "bi"), ["bin"])
        for shell, file in (("zsh", "zsh/site-functions/_store"), ("fish", "fish/vendor_completions.d/store.fish")):
            run(shell, "-n", os.path.join(share, file))

    def test_nothing_but_the_public_is_installed(self):
        found = {os.path.relpath(os.path.join(path, name), self.stage) for path, _, names in os.walk(self.stage) for name in names}
        headers = {name for name in found if name.startswith("include/")}
        public = {os.path.relpath(os.path.join(path, name), SOURCE) for path, _, names in os.walk(SOURCE + "/include")
                  for name in names}
        self.assertEqual(headers, public)
        self.assertIn("bin/store", found)


if __name__ == "__main__":
    unittest.main()
