# fuzz_target(NAME SOURCES... LINK ...): the function LLVMFuzzerTestOneInput of NAME_fuzz.c, which stands beside what it
# feeds. With CAIRN_FUZZ it becomes a libFuzzer program in fuzz/. Without, it becomes a CTest entry that feeds it the
# seeds of tests/fuzz/NAME/, among them whatever a fuzzer once found.
if(CAIRN_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

add_custom_target(fuzzers)

function(fuzz_target name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINK} project_warnings)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
  if(CAIRN_FUZZ)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    add_dependencies(fuzzers ${name})
    return()
  endif()
  target_sources(${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests/fuzz/replay.c)
  add_test(NAME fuzz/${name} COMMAND ${name} ${CMAKE_SOURCE_DIR}/tests/fuzz/${name})
endfunction()
