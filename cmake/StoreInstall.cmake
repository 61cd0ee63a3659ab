# What `cmake --install` puts where: the headers, the layers as static libraries for C++, libstore.so for C, the command, and what
# find_package(store) and pkg-config read.
include(CMakePackageConfigHelpers)

set(installed store)
set(STORE_CXX_LIBS "")
foreach(layer IN LISTS STORE_LAYERS)
  if(layer STREQUAL capi)
    continue()
  endif()
  list(APPEND installed store_${layer})
  set(STORE_CXX_LIBS "-lstore_${layer} ${STORE_CXX_LIBS}")  # highest first, as a linker reads static libraries
endforeach()
install(TARGETS ${installed} EXPORT store-targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)
if(STORE_BUILD_CAPI)
  set_target_properties(store_c PROPERTIES EXPORT_NAME c)
  install(TARGETS store_c EXPORT store-targets
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT runtime NAMELINK_COMPONENT development)
endif()
install(EXPORT store-targets NAMESPACE store:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/store COMPONENT development)
install(DIRECTORY include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")

configure_package_config_file(cmake/storeConfig.cmake.in "${CMAKE_CURRENT_BINARY_DIR}/storeConfig.cmake"
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/store)
write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/storeConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/storeConfig.cmake" "${CMAKE_CURRENT_BINARY_DIR}/storeConfigVersion.cmake"
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/store COMPONENT development)

set(pc_files store-cxx.pc)
if(STORE_BUILD_CAPI)
  list(APPEND pc_files store.pc)
endif()
foreach(file IN LISTS pc_files)
  configure_file(cmake/${file}.in "${CMAKE_CURRENT_BINARY_DIR}/${file}" @ONLY)
  install(FILES "${CMAKE_CURRENT_BINARY_DIR}/${file}" DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)
endforeach()

if(STORE_BUILD_TOOLS)
  install(TARGETS store_tool RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT runtime)
  install(DIRECTORY "${STORE_MANUAL}/" DESTINATION ${CMAKE_INSTALL_DATADIR} COMPONENT runtime)
endif()
