# Compiles SOURCE twice: as it stands it must compile, and with MISUSE defined it must not. The two differ in the misuse
# alone, so that nothing else, such as a header that is not found, can be what the compiler refuses.
#   cmake -DCOMPILER=… -DFLAGS=… -DSOURCE=… -P check.cmake
foreach(misuse "" "-DMISUSE")
  execute_process(COMMAND ${COMPILER} -std=c++20 ${FLAGS} ${misuse} -fsyntax-only ${SOURCE}
    RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(misuse STREQUAL "" AND NOT result EQUAL 0)
    message(FATAL_ERROR "the control does not compile:\n${output}")
  elseif(misuse AND result EQUAL 0)
    message(FATAL_ERROR "the misuse compiles")
  endif()
endforeach()
string(REGEX MATCH "error: [^\n]*" first_error "${output}")
message(STATUS "refused: ${first_error}")
