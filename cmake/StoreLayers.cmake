# Reads cmake/layers.txt, the one list of layers and of the edges allowed between them.
set(STORE_LAYERS "")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${CMAKE_CURRENT_LIST_DIR}/layers.txt")
file(STRINGS "${CMAKE_CURRENT_LIST_DIR}/layers.txt" _lines REGEX "^[a-z]")
foreach(_line IN LISTS _lines)
  string(REGEX MATCH "^([a-z]+): *src/([^ ]+)[^|]*\\|(.*)$" _ "${_line}")
  set(_name ${CMAKE_MATCH_1})
  set(STORE_LAYER_DIR_${_name} ${CMAKE_MATCH_2})
  string(REGEX REPLACE "([a-z]+)" "store_\\1" _deps "${CMAKE_MATCH_3}")
  separate_arguments(STORE_LAYER_DEPS_${_name} UNIX_COMMAND "${_deps}")
  list(APPEND STORE_LAYERS ${_name})
endforeach()
if(NOT STORE_BUILD_CAPI)
  list(REMOVE_ITEM STORE_LAYERS capi)
endif()

# store_layer(NAME source...): the static library store_NAME, linked with the layers that the table allows it.
function(store_layer name)
  add_library(store_${name} STATIC ${ARGN})
  # For archives and shared libraries alike: visible, for libstore-cxx.so; but calls within are what they are, and may be inlined.
  set_target_properties(store_${name} PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_EXTENSIONS OFF VISIBILITY_INLINES_HIDDEN ON)
  target_compile_options(store_${name} PRIVATE -fno-semantic-interposition)
  target_include_directories(store_${name}
    PUBLIC "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>" "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>"
    PRIVATE "${PROJECT_SOURCE_DIR}/src")
  target_compile_features(store_${name} PUBLIC cxx_std_20)
  target_link_libraries(store_${name} PUBLIC ${STORE_LAYER_DEPS_${name}}
    PRIVATE $<BUILD_INTERFACE:store_build_settings>)
endfunction()

# store_test(NAME SOURCES file... LINK target... LABELS label... [SERIAL]): one GoogleTest program, registered test by test.
#
# Labels say which runs a test belongs to: `unit` and `model` also run under AddressSanitizer + UndefinedBehaviorSanitizer,
# `runtime` under ThreadSanitizer (tests/unit/monterey has it without asking), `slow` only with `./dev test --all`.
# SERIAL keeps a test that measures time from running beside others. The target tests_LABEL builds all programs of a label.
set(STORE_TEST_LABELS unit model sim runtime e2e crash slow)
foreach(label IN LISTS STORE_TEST_LABELS)
  add_custom_target(tests_${label})
endforeach()

function(store_test name)
  cmake_parse_arguments(arg "SERIAL" "" "SOURCES;LINK;LABELS" ${ARGN})
  set(labels ${arg_LABELS})
  if(CMAKE_CURRENT_SOURCE_DIR STREQUAL "${PROJECT_SOURCE_DIR}/tests/unit/monterey")
    list(APPEND labels runtime)
  endif()
  list(REMOVE_DUPLICATES labels)
  add_executable(${name} ${arg_SOURCES})
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}/src" "${PROJECT_SOURCE_DIR}/tests")
  target_link_libraries(${name} PRIVATE ${arg_LINK} GTest::gmock GTest::gtest store_test_main store_build_settings)
  set(serial "")
  if(arg_SERIAL)
    set(serial RUN_SERIAL TRUE)
  endif()
  # The list passes through seven expansions inside of gtest_discover_tests before ctest reads it.
  string(REPLACE ";" [[\\\\\\\;]] escaped "${labels}")
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST PROPERTIES LABELS "${escaped}" TIMEOUT 600 ${serial})
  foreach(label IN LISTS labels)
    if(NOT label IN_LIST STORE_TEST_LABELS)
      message(FATAL_ERROR "${name}: no such label: ${label}; there are ${STORE_TEST_LABELS}")
    endif()
    add_dependencies(tests_${label} ${name})
  endforeach()
endfunction()
