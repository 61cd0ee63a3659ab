# Options of the build. A project that adds this one with add_subdirectory gets the library alone:
# tests, tools and developer warnings are on only when this is the top project.
option(STORE_BUILD_TESTS "Build the tests" ${PROJECT_IS_TOP_LEVEL})
option(STORE_BUILD_TOOLS "Build the store command" ${PROJECT_IS_TOP_LEVEL})
option(STORE_BUILD_EXAMPLES "Build the examples" ${PROJECT_IS_TOP_LEVEL})
option(STORE_BUILD_CAPI "Build libstore.so, the C API" ${PROJECT_IS_TOP_LEVEL})
option(STORE_INSTALL "Make the target `install`" ${PROJECT_IS_TOP_LEVEL})
option(STORE_DEBIAN "Install what Debian's packages have, and make them by CPack" OFF)
if(STORE_DEBIAN)
  find_program(STORE_GZIP gzip REQUIRED)
endif()
option(STORE_BUILD_BENCH "Build the benchmarks" OFF)
option(STORE_BENCH_PEERS "Build the benchmarks against peers that the other targets do not need: RocksDB and WiredTiger" OFF)
option(STORE_DEVELOPER "Warnings are errors" OFF)
option(STORE_PLANT "Compile in the planted bugs that the simulation's control switches on; never for a build that is used" OFF)
option(STORE_FUZZ "Build the fuzzers of tests/fuzz: everything is instrumented for libFuzzer (clang)" OFF)
include(CheckIncludeFileCXX)
check_include_file_cxx(sys/sdt.h STORE_HAS_SDT)
option(STORE_USDT "Compile in static probes for tracers (docs/probes.md); needs <sys/sdt.h> of SystemTap" ${STORE_HAS_SDT})
set(STORE_SANITIZE "" CACHE STRING "Sanitizers to build with: address,undefined or thread")
# An interpreter cannot load a module with a sanitizer's runtime that it was not built with.
set(python ${PROJECT_IS_TOP_LEVEL})
if(STORE_SANITIZE OR STORE_FUZZ)
  set(python OFF)
endif()
option(STORE_BUILD_PYTHON "Build the Python package; needs pybind11 and Python's headers" ${python})
unset(python)

if(PROJECT_IS_TOP_LEVEL AND NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

find_program(STORE_CCACHE ccache)
if(STORE_CCACHE AND PROJECT_IS_TOP_LEVEL)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${STORE_CCACHE})
endif()

# Compile settings every layer of the project shares; consumers of the library see none of them.
add_library(store_build_settings INTERFACE)
target_compile_features(store_build_settings INTERFACE cxx_std_20)
# SSE4.2 is the floor of every supported machine; anything wider is chosen at run time.
target_compile_options(store_build_settings INTERFACE -msse4.2 -fno-strict-aliasing)
if(STORE_DEVELOPER)
  target_compile_options(store_build_settings INTERFACE
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wnon-virtual-dtor -Werror
    # g++ 12 takes an assignment of a short literal to a std::string for an overlapping copy (GCC bug 105651).
    $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)
endif()
if(STORE_USDT)
  target_compile_definitions(store_build_settings INTERFACE STORE_USDT)
endif()
if(STORE_PLANT)
  target_compile_definitions(store_build_settings INTERFACE STORE_PLANT)
endif()
if(STORE_SANITIZE)
  target_compile_options(store_build_settings INTERFACE
    -fsanitize=${STORE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(store_build_settings INTERFACE -fsanitize=${STORE_SANITIZE})
  # With a sanitizer g++ 12 takes members of std::regex for uninitialised (GCC bug 105562).
  target_compile_options(store_build_settings INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
endif()
if(STORE_FUZZ)
  # Without following comparisons: counting bits and blocks, they took half the time, and the targets write checksums themselves.
  target_compile_options(store_build_settings INTERFACE -fsanitize=fuzzer-no-link -fno-sanitize-coverage=trace-cmp)
endif()
