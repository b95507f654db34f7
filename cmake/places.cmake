# install_at_its_place(KIND COMPONENT FILE...): what lies elsewhere in a package of the distribution than below another
# prefix. Which of both it is, is known when it is installed: a package is made of any build. Files that end in .in get
# the directories.
set(install_script ${CMAKE_CURRENT_LIST_DIR}/install_at_its_place.cmake)

function(install_at_its_place kind component)
  install(CODE "set(kind \"${kind}\")\nset(files \"${ARGN}\")\nset(scratch \"${CMAKE_CURRENT_BINARY_DIR}/installed\")"
    COMPONENT ${component})
  install(SCRIPT ${install_script} COMPONENT ${component})
endfunction()
