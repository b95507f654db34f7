# What `cmake --install` puts where, and into which package. The compiler of the schema is a tool for others too, so it
# comes along.
install(TARGETS cairnd RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT daemon)
install(TARGETS cairnctl schemac RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT tools)

set(documents ${CMAKE_INSTALL_DATADIR}/doc/cairn)
install(FILES README.md LICENSE DESTINATION ${documents} COMPONENT doc)
install(DIRECTORY docs/ DESTINATION ${documents}/docs COMPONENT doc FILES_MATCHING PATTERN "*.md")
install(FILES clients/demo/cairn.yaml DESTINATION ${documents}/examples COMPONENT doc)
