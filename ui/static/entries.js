// Between the address (address.js) and the page's server: asks for an entry of the history, and hears what is shown.
window.dormouseAddress.connect(trigger);
watch('value', () => { if (props.value) window.dormouseAddress.tell(JSON.parse(props.value)); });
