document.querySelector('#page').append(` You are at ${location.pathname}.`)
