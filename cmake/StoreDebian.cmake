# Debian packages, by CPack (`./dev deb`): what StoreInstall.cmake and the Python package install, as libstore<SONAME>, libstore-cxx<SONAME>,
# libstore-dev, store and python3-store, and what Debian wants besides. cmake/debian has what is text; docs/packaging.md says what is where.

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_CONTACT "The store authors <store@packages.invalid>" CACHE STRING "The maintainer of the packages")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "embedded key/value store")
set(CPACK_PACKAGE_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}")
set(CPACK_PACKAGING_INSTALL_PREFIX "${CMAKE_INSTALL_PREFIX}")
set(CPACK_STRIP_FILES ON)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_ENABLE_COMPONENT_DEPENDS ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_SOURCE store)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS "${CMAKE_CURRENT_BINARY_DIR}")
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS_POLICY ">=")  # what was linked with a version runs with the next ones of this SONAME

set(changelog "${CMAKE_CURRENT_BINARY_DIR}/debian")
file(MAKE_DIRECTORY "${changelog}")
string(TIMESTAMP STORE_DATE "%a, %d %b %Y %H:%M:%S +0000" UTC)  # of SOURCE_DATE_EPOCH, if that is set
configure_file(cmake/debian/changelog.in "${changelog}/changelog.Debian" @ONLY)
configure_file(CHANGELOG.md "${changelog}/changelog" COPYONLY)
execute_process(COMMAND "${STORE_GZIP}" -9nf "${changelog}/changelog" "${changelog}/changelog.Debian" COMMAND_ERROR_IS_FATAL ANY)
file(READ LICENSE-MIT STORE_MIT)
string(REGEX REPLACE "^[^\n]*\n\n[^\n]*\n\n" "" STORE_MIT "${STORE_MIT}")  # its title, and the notice that stands above
string(REPLACE "\n\n" "\n.\n" STORE_MIT "${STORE_MIT}")
string(REGEX REPLACE "\n$" "" STORE_MIT "${STORE_MIT}")
string(REPLACE "\n" "\n " STORE_MIT "${STORE_MIT}")
configure_file(cmake/debian/copyright.in "${changelog}/copyright" @ONLY)

# store_package(COMPONENT package SECTION section DESCRIPTION text [NEEDS component...] [DEPENDS package...])
function(store_package component package)
  cmake_parse_arguments(arg "" "SECTION;DESCRIPTION" "NEEDS;DEPENDS" ${ARGN})
  string(TOUPPER ${component} upper)
  string(REPLACE ";" ", " depends "${arg_DEPENDS}")
  foreach(variable IN ITEMS "DEBIAN_${upper}_PACKAGE_NAME;${package}" "DEBIAN_${upper}_PACKAGE_SECTION;${arg_SECTION}"
      "DEBIAN_${upper}_DESCRIPTION;${arg_DESCRIPTION}" "DEBIAN_${upper}_PACKAGE_DEPENDS;${depends}" "COMPONENT_${upper}_DEPENDS;${arg_NEEDS}")
    list(POP_FRONT variable name)
    set(CPACK_${name} "${variable}" PARENT_SCOPE)
  endforeach()
  set(CPACK_COMPONENTS_ALL ${CPACK_COMPONENTS_ALL} ${component} PARENT_SCOPE)
  install(FILES "${changelog}/copyright" "${changelog}/changelog.gz" "${changelog}/changelog.Debian.gz"
    DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${package} COMPONENT ${component})
endfunction()

set(about "An ordered map of bytes to bytes in one file or on one NVMe namespace, for
programs that keep it inside of themselves: a copy-on-write B+tree with
snapshots, atomic batches and checksums, on io_uring or on threads.")
store_package(c libstore${PROJECT_VERSION_MAJOR} SECTION libs DESCRIPTION "${about}\n\nThis is the library for C, and for languages that bind to it.")
store_package(cxx libstore-cxx${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR} SECTION libs DESCRIPTION "${about}\n\nThis is the library for C++20.")
store_package(dev libstore-dev SECTION libdevel NEEDS c cxx DEPENDS libfmt-dev libisal-dev liburing-dev pkg-config
  DESCRIPTION "${about}\n\nThese are the headers, the static libraries, and the files of CMake and\npkg-config.")
store_package(tool store SECTION database DESCRIPTION "${about}\n\nThis is the command, which reads, writes, checks, compacts and copies stores.")
foreach(component C CXX)
  set(CPACK_DEBIAN_${component}_PACKAGE_CONTROL_EXTRA "${CMAKE_CURRENT_SOURCE_DIR}/cmake/debian/triggers")
endforeach()

# The module is for one version of Python only. Its scripts compile it when it is installed, and remove that with it.
math(EXPR next "${Python3_VERSION_MINOR} + 1")
store_package(python python3-store SECTION python NEEDS cxx DEPENDS "python3 (>= 3.${Python3_VERSION_MINOR})" "python3 (<< 3.${next})"
  DESCRIPTION "${about}\n\nThis is the module for Python.")
set(CPACK_DEBIAN_PYTHON_PACKAGE_CONTROL_EXTRA
  "${CMAKE_CURRENT_SOURCE_DIR}/cmake/debian/postinst;${CMAKE_CURRENT_SOURCE_DIR}/cmake/debian/prerm")

include(CPack)
