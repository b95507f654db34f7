# What `cmake --install` puts where. The compiler of the schema is a tool for others too, so it comes along.
foreach(program cairnd cairnctl schemac)
  if(TARGET ${program})
    install(TARGETS ${program} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  endif()
endforeach()

install(FILES README.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/docs FILES_MATCHING PATTERN "*.md")
install(FILES clients/demo/cairn.yaml DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples)
